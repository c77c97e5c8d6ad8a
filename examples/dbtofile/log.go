package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/internal/journal"
)

// output returns the logger, and the screen if the log is text on a terminal.
func output(format string, level slog.Level) (*slog.Logger, *screen) {
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
	if format == "json" {
		return slog.New(slog.NewJSONHandler(to, o)), nil
	}
	return slog.New(slog.NewTextHandler(to, o)), s
}

// say writes the reason for the exit to standard error, in the format of the log.
func say(format, text string) {
	switch {
	case format == "json":
		log, _ := output(format, slog.LevelError)
		log.Error("ended", "err", text)
	case journal.Connected():
		fmt.Fprintln(os.Stderr, "<3>"+strings.ReplaceAll(text, "\n", "\n<3>"))
	default:
		fmt.Fprintln(os.Stderr, text)
	}
}
