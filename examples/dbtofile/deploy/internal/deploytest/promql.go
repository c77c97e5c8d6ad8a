package deploytest

import (
	"regexp"
	"slices"
	"strings"
)

const text = `"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|` + "`[^`]*`"

// token finds the next token of PromQL, which must be valid: strings, the braces
// of a selector, the brackets of a range, numbers and durations, names, operators.
var token = regexp.MustCompile(`^\s*(` + text + `|\{(?:` + text + `|[^}])*?\}|\[[^\]]*\]` +
	`|[0-9.][0-9a-zA-Z.]*|[a-zA-Z_:][a-zA-Z0-9_:]*|==|!=|>=|<=|[-+*/%^<>(),@])`)

func tokens(expr string) (list []string) {
	for rest := expr; strings.TrimSpace(rest) != ""; {
		found := token.FindStringSubmatch(rest)
		if found == nil {
			panic("deploytest: this is no PromQL: " + rest)
		}
		list = append(list, found[1])
		rest = rest[len(found[0]):]
	}
	return list
}

var (
	words    = []string{"and", "or", "unless", "atan2", "offset", "bool", "inf", "nan"}
	grouping = []string{"by", "without", "on", "ignoring", "group_left", "group_right"} // labels follow
	compares = []string{"==", "!=", ">", "<", ">=", "<="}
)

// Selectors returns the selectors of series in an expression, without their
// ranges and offsets, each once.
func Selectors(expr string) (selectors []string) {
	list := append(tokens(expr), "")
	for i := 0; i < len(list)-1; i++ {
		t, next := list[i], list[i+1]
		switch word := strings.ToLower(t); {
		case slices.Contains(grouping, word):
			if next == "(" {
				i += 1 + slices.Index(list[i+1:], ")")
			}
			continue
		case slices.Contains(words, word), !strings.ContainsAny(t[:1], "{_:"+letters):
			continue
		case t[0] != '{' && (next == "(" || slices.Contains(grouping, strings.ToLower(next))):
			continue // a function, or an aggregation
		case t[0] != '{' && strings.HasPrefix(next, "{"):
			t += next
			i++
		}
		if !slices.Contains(selectors, t) {
			selectors = append(selectors, t)
		}
	}
	return selectors
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Open returns an alert's expression without its conditions: it compares and
// leaves out nothing, and so returns a series wherever the alert could fire. That
// shows that the labels on both sides of its operators match, which the selectors
// alone do not.
func Open(expr string) string {
	list := tokens(expr)
	for i, t := range list {
		switch {
		case slices.Contains(compares, t):
			list[i] = t + " bool"
		case t == "unless":
			list[i] = "and"
		case t == "absent":
			list[i] = "count"
		}
	}
	return strings.Join(list, " ")
}
