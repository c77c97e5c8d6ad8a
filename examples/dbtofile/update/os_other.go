//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
)

func unprivileged(*exec.Cmd) {}

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func free(string) (int64, error) { return 0, errors.ErrUnsupported }
