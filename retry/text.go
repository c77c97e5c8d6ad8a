package retry

import (
	"regexp"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
)

// Text returns the text of err without values of rows and without data source
// names, so that it is safe to log.
//
// Database drivers put values into their messages, such as "Duplicate entry
// 'bob@example.org' for key 'email'". Text replaces the message of a driver's
// error by its code and the names of the constraint, table and column. It keeps
// the message only if messages with that code contain no values. The text of the
// errors that wrap it is kept. The list of attempts to connect that pgx returns is
// put on one line.
//
// Text also hides values in the errors that database/sql, strconv, time and pgx
// return when a value cannot be converted. It cannot look into an error that was
// formatted as text: wrap errors with %w, not with %v. Text does not change err
// itself. Text(nil) is empty.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return unconverted.ReplaceAllString(attempts(text(err)), "$1$2 (value not shown)")
}

// attempts joins the lines on which pgx lists its attempts to connect. Equal ones follow
// each other where it tried with and without TLS.
func attempts(s string) string {
	head, list, found := strings.Cut(s, ":\n\t")
	if !found {
		return s
	}
	return head + ": " + strings.Join(slices.Compact(strings.Split(list, "\n\t")), "; ")
}

// unconverted matches conversion errors, up to the position of the value.
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
		// A wrapper may have changed the text that it wraps. That text may contain
		// values, so only the safe text of the inner error is used.
		hidden = hidden || !strings.Contains(s, was)
		s = strings.ReplaceAll(s, was, safe)
	}
	if hidden {
		return strings.Join(inner, "; ")
	}
	return s
}
