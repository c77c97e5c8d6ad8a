package prometheus_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const quoted = `"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|` + "`[^`]*`"

// token finds the next token of PromQL, which must be valid: strings, the braces
// of a selector, the brackets of a range, numbers and durations, names, operators.
var token = regexp.MustCompile(`^\s*(` + quoted + `|\{(?:` + quoted + `|[^}])*?\}|\[[^\]]*\]` +
	`|[0-9.][0-9a-zA-Z.]*|[a-zA-Z_:][a-zA-Z0-9_:]*|==|!=|>=|<=|[-+*/%^<>(),@])`)

func tokens(expr string) (list []string) {
	for rest := expr; strings.TrimSpace(rest) != ""; {
		found := token.FindStringSubmatch(rest)
		if found == nil {
			panic("not PromQL: " + rest)
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

// selectors returns the selectors of series in an expression, without their
// ranges and offsets, each once.
func selectors(expr string) (found []string) {
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
		if !slices.Contains(found, t) {
			found = append(found, t)
		}
	}
	return found
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// unconditional returns an alert's expression without its conditions: comparisons
// return 0 or 1, and "unless" is "and". It has series wherever the alert could
// fire, which shows that the labels on both sides of the operators match.
func unconditional(expr string) string {
	list := tokens(expr)
	for i, t := range list {
		switch {
		case slices.Contains(compares, t):
			list[i] = t + " bool"
		case t == "unless":
			list[i] = "and"
		case t == "absent": // true where there is nothing, so show that there is something
			list[i] = "count"
		}
	}
	return strings.Join(list, " ")
}

func TestSelectors(t *testing.T) {
	for expr, want := range map[string][]string{
		`vector(1)`:                         nil,
		`time() - 5 > 1e3`:                  nil,
		`up`:                                {"up"},
		`up == 1 and up offset 1h`:          {"up"},
		`{job="a"}`:                         {`{job="a"}`},
		`a{x=~"}|\"",y!='(b)'}[5m] / c:d`:   {`a{x=~"}|\"",y!='(b)'}`, "c:d"},
		`sum by (a, b) (rate(c_total[5m]))`: {"c_total"},
		`sum(rate(c_total{x="y"}[5m])) without (a)`:                         {`c_total{x="y"}`},
		`a * on (job) group_left (b) c > bool clamp_min(3 * d, 600)`:        {"a", "c", "d"},
		`min_over_time(timestamp(a)[1d:1m]) or b unless on (x) c`:           {"a", "b", "c"},
		`label_replace(a, "b", "$1", "c", "(d.*)") % quantile(.9, e) ^ Inf`: {"a", "e"},
		"a{b=`c\"`} < NaN": {"a{b=`c\"`}"},
	} {
		assert.Equal(t, want, selectors(expr), expr)
	}
	assert.Panics(t, func() { selectors(`a{b="c`) })
}

func TestUnconditional(t *testing.T) {
	for expr, want := range map[string]string{
		`a > 5`:                              `a > bool 5`,
		`a{b=">"} >= 5 unless on (x) c == 1`: `a {b=">"} >= bool 5 and on ( x ) c == bool 1`,
		`absent(up{job="x"}) or a[5m] < 1`:   `count ( up {job="x"} ) or a [5m] < bool 1`,
	} {
		assert.Equal(t, want, unconditional(expr))
	}
}
