package sdnotify

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/artifactofdevotion/devotion/poller"
)

// wordsLimit is in bytes. More does not fit on a screen, and a message is at most 4 KiB.
const wordsLimit = 500

// words describes the pipelines on one line. Those that fail come first, because a long
// line is cut.
func words(pipelines []func() poller.Status, now time.Time) string {
	var all []poller.Status
	for _, pipeline := range pipelines {
		all = append(all, pipeline())
	}
	slices.SortStableFunc(all, func(a, b poller.Status) int { return trouble(b) - trouble(a) })
	var parts []string
	for _, s := range all {
		parts = append(parts, line(s, now))
	}
	return shorten(strings.Map(printable, strings.ToValidUTF8(strings.Join(parts, "; "), "?")))
}

func line(s poller.Status, now time.Time) string {
	text := fmt.Sprintf("%s, %d rows", s.Summary(now), s.Records)
	if s.Name != "" {
		text = s.Name + ": " + text
	}
	lag, known := s.Lag(now)
	switch {
	case !known:
		return text
	case lag < statusEvery: // no finer than the messages
		return fmt.Sprintf("%s, lag under %v", text, statusEvery)
	}
	return fmt.Sprintf("%s, lag %v", text, lag.Round(time.Second))
}

func trouble(s poller.Status) int {
	switch {
	case s.Overdue:
		return 4
	case s.State == poller.Stopped && !s.Done, s.State == poller.Restarting:
		return 3
	case s.Attempts > 0:
		return 2
	case s.Held != nil:
		return 1
	}
	return 0
}

// printable replaces characters of a name that would break the line or the terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

func shorten(s string) string {
	if len(s) <= wordsLimit {
		return s
	}
	const more = "…"
	return strings.ToValidUTF8(s[:wordsLimit-len(more)], "") + more
}
