//go:build !linux && !darwin

package main

func lock(string) (func() error, error) { return func() error { return nil }, nil }
