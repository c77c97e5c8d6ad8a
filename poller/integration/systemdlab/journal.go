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
	At       time.Duration // when the journal received it, by the monotonic clock; on a busy machine that can be late
	Message  string
	PID      string // of the process that wrote it
	Priority string // 0 to 7, where 3 is an error
	// Fields are the entry's fields in the journal, by name, such as MESSAGE_ID.
	Fields map[string]string
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
		entries = append(entries, entry(fields))
	}
}

// entry leaves out fields that are not text: repeated ones, which are lists, and bytes.
func entry(fields map[string]any) Entry {
	e := Entry{Fields: map[string]string{}}
	for name, value := range fields {
		if text, ok := value.(string); ok {
			e.Fields[name] = text
		}
	}
	µs, _ := strconv.ParseInt(e.Fields["__MONOTONIC_TIMESTAMP"], 10, 64)
	e.At = time.Duration(µs) * time.Microsecond
	e.Message, e.PID, e.Priority = e.Fields["MESSAGE"], e.Fields["_PID"], e.Fields["PRIORITY"]
	return e
}
