package retry

import (
	"regexp"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
)

// Text returns err's text fit for a log. Drivers put values of rows into their
// messages ("Duplicate entry 'bob@example.org' for key 'email'"), and whole data
// source names. So in place of each driver's error there is its code with the
// names of constraint, table and column, and its message only where a message
// of that code holds no values. The text that wraps it stays.
//
// It also hides values in the errors that database/sql, strconv, time and pgx
// make when a value cannot be converted. It cannot see through an error that
// was made into text before: wrap with %w, not %v. The errors themselves keep
// all, for errors.As. Text(nil) is empty.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return unconverted.ReplaceAllString(text(err), "$1$2 (value not shown)")
}

// unconverted finds the errors of conversions, up to where a value may stand.
var unconverted = regexp.MustCompile(`(?s)(?:(sql: Scan error on column index \d+, name "(?:[^"\\]|\\.)*":` +
	`(?: converting NULL to \S+ is unsupported| converting driver\.Value type \S+| unsupported Scan, storing driver\.Value type \S+ into type \S+)?` +
	`|can't scan into dest\[\d+\](?: \(col: [^)]*\))?:|unable to encode)|(parsing(?: time)?) ").*`)

func text(err error) string {
	if dberr.IsNil(err) {
		return "<nil>"
	}
	if s, _, ok := dberr.Read(err); ok {
		return s
	}
	s := err.Error()
	var inner []string
	hidden := false
	for _, e := range dberr.Unwrap(err) {
		if dberr.IsNil(e) {
			continue
		}
		was, safe := e.Error(), text(e)
		inner = append(inner, safe)
		if was == safe {
			continue
		}
		// A wrapper may have changed the text it wraps. What it made of it
		// cannot be told from values, so only the inner text is left.
		hidden = hidden || !strings.Contains(s, was)
		s = strings.ReplaceAll(s, was, safe)
	}
	if hidden {
		return strings.Join(inner, "; ")
	}
	return s
}
