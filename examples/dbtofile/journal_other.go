//go:build !linux

package main

func toJournal() bool { return false }
