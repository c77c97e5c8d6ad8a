package systemdlab

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWithoutItsProgramsATestIsSkippedButFailsInCI(t *testing.T) {
	if testing.Short() || race() || runtime.GOOS != "linux" {
		t.Skip("other reasons come first")
	}
	if _, err := os.Stat(systemd); err != nil && os.Getenv("CI") != "true" {
		t.Skip("install the package systemd")
	}
	t.Setenv("PATH", t.TempDir())

	t.Setenv("CI", "")
	tb := boot()
	assert.Contains(t, tb.skip, "install the package util-linux")
	assert.Empty(t, tb.fatal)

	t.Setenv("CI", "true")
	tb = boot()
	assert.Contains(t, tb.fatal, "install the package util-linux")
	assert.Empty(t, tb.skip)
}

// fakeTB keeps what a test would have ended with.
type fakeTB struct {
	testing.TB
	fatal, skip string
}

func boot() *fakeTB {
	tb, done := &fakeTB{}, make(chan struct{})
	go func() { defer close(done); Boot(tb) }()
	<-done
	return tb
}

func (f *fakeTB) Helper()           {}
func (f *fakeTB) Fatal(args ...any) { f.fatal = fmt.Sprint(args...); runtime.Goexit() }
func (f *fakeTB) Skip(args ...any)  { f.skip = fmt.Sprint(args...); runtime.Goexit() }
