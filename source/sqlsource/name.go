package sqlsource

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/artifactofdevotion/devotion/retry"
)

// permanent returns an error of this package that is not worth retrying.
func permanent(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("sqlsource: "+format, args...))
}

// namePart is a part of a table's name: in double quotes, with "" for a quote, or
// without dots and quotes.
var namePart = regexp.MustCompile(`^(?:"((?:[^"]|"")*)"|([^".]+))(\.|$)`)

// splitName splits a table's name at its dots.
func splitName(name string) (parts []string, err error) {
	for rest, more := name, true; more; {
		m := namePart.FindStringSubmatch(rest)
		if m == nil || len(parts) == 2 {
			return nil, errors.New("want a name, or a schema, a dot and a name; put a name with dots or quotes into double quotes, and double the quotes inside")
		}
		part := m[2] + strings.ReplaceAll(m[1], `""`, `"`) // one of them is empty
		if err := checkIdent(part); err != nil {
			return nil, err
		}
		parts, rest, more = append(parts, part), rest[len(m[0]):], m[3] == "."
	}
	return parts, nil
}

func checkIdents(field string, names []string) error {
	for i, name := range names {
		if err := checkIdent(name); err != nil {
			return fmt.Errorf("%s[%d]: %w", field, i, err)
		}
	}
	return nil
}

// checkIdent refuses what is not a name even in quotes.
func checkIdent(s string) error {
	switch {
	case s == "":
		return errors.New("a name is empty")
	case strings.ContainsRune(s, 0):
		return errors.New("a name holds a NUL byte")
	case !utf8.ValidString(s):
		return errors.New("a name is not valid UTF-8")
	}
	return nil
}
