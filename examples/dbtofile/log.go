package main

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// output returns the logger, and the screen if standard error is a terminal.
func output(level slog.Level) (*slog.Logger, *screen) {
	fd := int(os.Stderr.Fd())
	var to io.Writer = os.Stderr
	var s *screen
	clock := "2006-01-02T15:04:05.000Z07:00"
	switch {
	case term.IsTerminal(fd):
		s = &screen{out: os.Stderr, width: func() int {
			if w, _, err := term.GetSize(fd); err == nil && w > 0 {
				return w
			}
			return 80 // a serial line does not know
		}}
		to, clock = s, "15:04:05"
	case toJournal():
		clock = "" // the journal knows the time
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 || a.Key != slog.TimeKey || a.Value.Kind() != slog.KindTime {
				return a
			}
			if clock == "" {
				return slog.Attr{}
			}
			return slog.String(a.Key, a.Value.Time().Format(clock))
		},
	})), s
}
