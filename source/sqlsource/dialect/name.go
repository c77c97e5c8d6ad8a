package dialect

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"
)

// namePart is a part of a table's name: in double quotes, with "" for a quote, or
// without dots and quotes.
var namePart = regexp.MustCompile(`^(?:"((?:[^"]|"")*)"|([^".]+))(\.|$)`)

// SplitName returns the parts of a table's name: a schema, if there is one, and the table. A part that
// holds a dot or a quote is in double quotes, with the quotes inside doubled.
func SplitName(name string) (parts []string, err error) {
	for rest, more := name, true; more; {
		m := namePart.FindStringSubmatch(rest)
		if m == nil || len(parts) == 2 {
			return nil, errors.New("want a name, or a schema, a dot and a name; put a name with dots or quotes into double quotes, and double the quotes inside")
		}
		part := m[2] + strings.ReplaceAll(m[1], `""`, `"`) // one of them is empty
		if err := CheckName(part); err != nil {
			return nil, err
		}
		parts, rest, more = append(parts, part), rest[len(m[0]):], m[3] == "."
	}
	return parts, nil
}

// CheckName refuses what is not a name even in quotes.
func CheckName(s string) error {
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
