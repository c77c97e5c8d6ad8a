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
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Only to be told to others: a full disk is to keep no rollback from its end.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return func() { f.Close() }, nil
}
