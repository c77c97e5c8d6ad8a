package systemdlab

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// Entry is a line of the journal.
type Entry struct {
	At      time.Duration // when the journal received it, by the monotonic clock; on a busy machine that can be late
	Message string
	Fields  map[string]string // as the journal has them, such as _PID, PRIORITY (0 to 7, where 3 is an error) and MESSAGE_ID
}

// Journal returns the lines from and about a unit, oldest first.
func (l *Lab) Journal(unit string) []Entry {
	l.tb.Helper()
	l.Must("journalctl", "--sync")
	out := l.Must("journalctl", "--output=json", "--all", "--unit="+unit)
	var entries []Entry
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var fields map[string]any
		if err := d.Decode(&fields); errors.Is(err, io.EOF) {
			return entries
		} else if err != nil {
			l.tb.Fatalf("systemdlab: the journal: %v", err)
		}
		e := Entry{Fields: map[string]string{}}
		for name, value := range fields {
			if text, ok := value.(string); ok { // others are repeated fields and bytes
				e.Fields[name] = text
			}
		}
		µs, _ := strconv.ParseInt(e.Fields["__MONOTONIC_TIMESTAMP"], 10, 64)
		e.At, e.Message = time.Duration(µs)*time.Microsecond, e.Fields["MESSAGE"]
		entries = append(entries, e)
	}
}
