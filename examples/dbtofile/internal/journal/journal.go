// Package journal writes a program's log to the systemd journal by way of its
// standard error, for dbtofile and its updater.
package journal

import (
	"io"
	"regexp"
)

// Writer gives each line of a log the priority of its level, as sd-daemon(3)
// has it, so that journalctl -p warning shows what is worth a look. The line
// keeps its level, for grep. Lines are those of a TextHandler or JSONHandler without a
// time, one in a Write.
type Writer struct{ To io.Writer }

var levels = regexp.MustCompile(`^(?:level=|{"level":")([A-Z]+)`) // without a time they come first

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
