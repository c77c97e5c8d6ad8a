package sqlsource

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/artifactofdevotion/devotion/retry"
)

// permanent returns an error of this package that is not worth retrying.
func permanent(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("sqlsource: "+format, args...))
}

// splitName takes a table's name apart at its dots. A part in double quotes is
// taken as it is, with "" for a quote.
func splitName(name string) ([]string, error) {
	var parts []string
	for rest := name; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			end, found := 1, false
			for ; end < len(rest); end++ {
				if rest[end] != '"' {
					continue
				}
				if end+1 < len(rest) && rest[end+1] == '"' {
					end++
					continue
				}
				found = true
				break
			}
			if !found {
				return nil, errors.New("a quote is not closed")
			}
			part, rest = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
			if rest != "" && rest[0] != '.' {
				return nil, errors.New("a dot or the end must follow a closing quote")
			}
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
			if strings.Contains(part, `"`) {
				return nil, errors.New(`a name that holds a quote must be quoted, with "" for the quote`)
			}
		}
		if err := checkIdent(part); err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		rest = rest[1:]
	}
	if len(parts) > 2 {
		return nil, errors.New("want a name, or a schema and a name; put a name that holds dots into double quotes")
	}
	return parts, nil
}

// checkIdent refuses what no quoting makes a name.
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
