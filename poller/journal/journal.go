// Package journal writes a program's log to the systemd journal through its
// standard error, with the priority of each line.
//
//	if journal.Connected() {
//		log = slog.New(slog.NewTextHandler(journal.Writer{To: os.Stderr}, options)) // without a time
//	}
package journal

import (
	"io"
	"regexp"
)

// Writer prefixes each line of a log with the priority of its level, see
// sd-daemon(3), so that journalctl -p warning finds warnings and errors. The line
// keeps its level, for grep. Each Write must be one line of a slog.TextHandler or
// slog.JSONHandler without a time.
type Writer struct{ To io.Writer }

var levels = regexp.MustCompile(`^(?:level=|{"level":")([A-Z]+)`) // without a time the level comes first

var priorities = map[string]string{"DEBUG": "<7>", "INFO": "<6>", "WARN": "<4>", "ERROR": "<3>"}

func (w Writer) Write(line []byte) (int, error) {
	var priority string
	if m := levels.FindSubmatch(line); m != nil {
		priority = priorities[string(m[1])]
	}
	if _, err := w.To.Write(append([]byte(priority), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
