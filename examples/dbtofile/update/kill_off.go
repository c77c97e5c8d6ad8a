//go:build !(killpoints && linux)

package main

func killpoints() func(string, func() error) error { return nil }
