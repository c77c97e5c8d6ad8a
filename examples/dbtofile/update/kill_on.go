//go:build killpoints && linux

package main

import (
	"os"
	"strconv"
	"syscall"
)

// killpoints lets a test end this process at a step, as kill -9 would: the number in
// KILL_AT counts the beginnings and ends of steps from 1. Such a build is made by
// the test itself, and by nobody else.
func killpoints() func(string, func() error) error {
	at, _ := strconv.Atoi(os.Getenv("KILL_AT"))
	n := 0
	point := func() {
		if n++; n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	return func(_ string, do func() error) error {
		point()
		err := do()
		point()
		return err
	}
}
