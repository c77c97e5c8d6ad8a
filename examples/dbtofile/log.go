package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/artifactofdevotion/devotion/poller/asynclog"
	"github.com/artifactofdevotion/devotion/poller/journal"
)

// output returns the logger, and the screen if the log is text on a terminal. Logging
// does not wait for a reader of standard error that hangs. The function end writes the
// lines that are left.
func output(format string, level slog.Level) (log *slog.Logger, _ *screen, end func()) {
	fd := int(os.Stderr.Fd())
	var to io.Writer = os.Stderr
	var s *screen
	clock := "2006-01-02T15:04:05.000Z07:00"
	switch {
	case journal.Connected():
		to, clock = journal.Writer{To: os.Stderr}, "" // the journal adds the time
	case format == "text" && term.IsTerminal(fd):
		s = &screen{out: os.Stderr, width: func() int {
			if w, _, err := term.GetSize(fd); err == nil && w > 0 {
				return w
			}
			return 80 // a serial line has no size
		}}
		to, clock = s, "15:04:05"
	}
	o := &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0 || a.Key != slog.TimeKey || a.Value.Kind() != slog.KindTime:
				return a
			case clock == "":
				return slog.Attr{}
			}
			return slog.String(a.Key, a.Value.Time().Format(clock))
		},
	}
	var lines slog.Handler = slog.NewTextHandler(to, o)
	if format == "json" {
		lines = slog.NewJSONHandler(to, o)
	}
	queue := asynclog.New(lines)
	return slog.New(queue), s, func() { _ = queue.Close() } // an error says that nobody reads
}

// within calls f, and stops waiting for it after a moment: a terminal or a pipe may be
// blocked.
func within(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(asynclog.Patience):
	}
}

// say writes the reason for the exit to standard error, in the format of the log.
func say(format, text string) {
	if format == "json" {
		log, _, end := output(format, slog.LevelError)
		log.Error("ended", "err", text)
		end()
		return
	}
	if journal.Connected() {
		text = "<3>" + strings.ReplaceAll(text, "\n", "\n<3>")
	}
	within(func() { fmt.Fprintln(os.Stderr, text) })
}
