//go:build unix

package main_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fullPipe returns the end of a pipe that is full and that nobody reads.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	fd := int(w.Fd())
	require.NoError(t, syscall.SetNonblock(fd, true))
	for buf := make([]byte, 1); err == nil; {
		_, err = syscall.Write(fd, buf)
	}
	require.ErrorIs(t, err, syscall.EAGAIN)
	require.NoError(t, syscall.SetNonblock(fd, false))
	return w
}

// Nobody reads standard error. The copy goes on, and a signal is obeyed.
func TestNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		db, dsn := shop(t, 10)
		dir := t.TempDir()
		p := command(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-interval", "10ms",
			"-segment-bytes", "1", "-batch", "1", "-log-format", format, "-log-level", "debug") // a line for each row
		p.Stderr = fullPipe(t)
		p.launch()
		copied := func(n int) func() bool { // a file has one row
			return func() bool {
				files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
				return err == nil && len(files) == n
			}
		}
		require.Eventually(t, copied(10), patience, 10*time.Millisecond)
		sell(db, 11, 1500) // more lines than the queue holds
		require.Eventually(t, copied(1500), patience, 10*time.Millisecond)
		require.Equal(t, sold(1, 1500), content(t, dir, ".jsonl"))
		p.signal(syscall.SIGTERM)
		require.Equal(t, 0, p.code())

		// An error at the end is not written either.
		p = command(t, nil, "-dsn", dsn, "-table", "nosuchtable", "-key", "id", "-out", t.TempDir(), "-once", "-log-format", format)
		p.Stderr = fullPipe(t)
		p.launch()
		require.Equal(t, 1, p.code())
	}
}
