package dberr

import (
	"regexp"
	"slices"
	"strings"
)

// Text returns the text of err without values of rows and without data source names,
// see retry.Text.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return unconverted.ReplaceAllString(attempts(safe(err)), "$1$2 (value not shown)")
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

func safe(err error) string {
	if IsNil(err) {
		return "<nil>"
	}
	if s, _, ok := Read(err); ok {
		return s
	}
	s := err.Error()
	var inner []string
	hidden := false
	for _, e := range Unwrap(err) {
		if IsNil(e) {
			continue
		}
		was, is := e.Error(), safe(e)
		inner = append(inner, is)
		if was == is {
			continue
		}
		// A wrapper may have changed the text that it wraps. That text may contain
		// values, so only the safe text of the inner error is used.
		hidden = hidden || !strings.Contains(s, was)
		s = strings.ReplaceAll(s, was, is)
	}
	if hidden {
		return strings.Join(inner, "; ")
	}
	return s
}
