package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

var errLocked = errors.New("another run is at work")

// lock makes this the only run until unlock is called. The package's scripts take
// the same lock, with flock(1).
func (u *updater) lock() (unlock func(), err error) {
	if err := os.MkdirAll(u.config.state, 0o755); err != nil { // systemd has made it, cron has not
		return nil, err
	}
	path := filepath.Join(u.config.state, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // whoever can open it can hold it
	if err != nil {
		return nil, err
	}
	got, err := tryLock(f)
	if err == nil && !got {
		holder, _ := io.ReadAll(io.LimitReader(f, 32))
		err = fmt.Errorf("%w: process %s holds %s", errLocked, strings.TrimSpace(string(holder)), path)
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), write(f, strconv.Itoa(os.Getpid())+"\n"))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
