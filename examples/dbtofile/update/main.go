package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/internal/journal"
	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parse(os.Args[1:], os.Environ())
	if err == nil {
		err = run(ctx, c)
	}
	os.Exit(code(err))
}

func run(ctx context.Context, c config) error {
	c.os, c.arch, c.userAgent = runtime.GOOS, runtime.GOARCH, "dbtofile-update/"+version()
	u := &updater{config: c, machine: systemd{}, log: logger(c.logLevel), out: os.Stdout, step: killpoints()}
	var err error
	if c.unquarantine == "" {
		if u.from, err = newSource(c); err == nil {
			u.trusted, err = index.ReadKeys(c.keys)
		}
	}
	if err == nil {
		err = u.update(ctx)
	}
	var usage usageError
	switch {
	case err == nil || errors.Is(err, errAvailable) || errors.As(err, &usage):
	case errors.Is(err, errDeferred):
		u.log.Warn("update deferred", "err", err)
	case errors.Is(err, errLocked):
		u.log.Warn("nothing done", "err", err)
	default:
		u.log.Error("update failed", "err", err)
	}
	return err
}

// logger writes lines to standard error. The journal knows the time, and takes the
// priority instead.
func logger(level slog.Level) *slog.Logger {
	var to io.Writer = os.Stderr
	options := &slog.HandlerOptions{Level: level}
	if journal.Connected() {
		to = journal.Writer{To: os.Stderr}
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// code returns the exit code, and prints what is not in the log.
func code(err error) int {
	var usage usageError
	var text answer
	switch {
	case err == nil:
		return 0
	case errors.As(err, &text):
		fmt.Print(text)
		return 0
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, usage)
		return 2
	case errors.Is(err, errDeferred):
		return 3
	case errors.Is(err, errRolledBack):
		return 4
	case errors.Is(err, errLocked):
		return 5
	case errors.Is(err, errAvailable):
		return 6
	}
	return 1
}

// release is set in builds that are released: go build -ldflags "-X main.release=1.2.3".
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionLine() string {
	return fmt.Sprintf("dbtofile-update %s (%s, %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
