package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/examples/dsn"
)

// open opens the database without connecting to it, because the pipeline waits for a
// database that is down. Each connect reads the file of -dsn-file again.
func (c config) open() (*sqlx.DB, error) {
	db, err := dsn.Open(c.ask)
	if errors.Is(err, dsn.ErrMalformed) {
		return nil, wrong("%v", err)
	}
	return db, err
}

// ask returns the DSN. A file that is not regular, such as a pipe, is only read once.
func (c config) ask() (string, error) {
	if info, err := os.Stat(c.dsnFile); c.dsnFile == "" || err == nil && !info.Mode().IsRegular() {
		return c.dsn, nil
	}
	return readDSN(c.dsnFile)
}

func readDSN(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("-dsn-file: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf("-dsn-file: %s is empty: write the DSN into it", file)
	}
	return string(text), nil
}

// warnOfReaders warns if other users can read or write the file of -dsn-file.
func (c config) warnOfReaders(log *slog.Logger) {
	const others fs.FileMode = 0o006
	if info, err := os.Stat(c.dsnFile); c.dsnFile != "" && err == nil && info.Mode()&others != 0 && runtime.GOOS != "windows" {
		log.Warn("DSN file is open to other users", "path", c.dsnFile, "mode", info.Mode().String())
	}
}
