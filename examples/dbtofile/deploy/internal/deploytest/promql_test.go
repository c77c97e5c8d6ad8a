package deploytest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

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
		assert.Equal(t, want, deploytest.Selectors(expr), expr)
	}
	assert.Panics(t, func() { deploytest.Selectors(`a{b="c`) })
}

func TestOpen(t *testing.T) {
	for expr, want := range map[string]string{
		`a > 5`:                              `a > bool 5`,
		`a{b=">"} >= 5 unless on (x) c == 1`: `a {b=">"} >= bool 5 and on ( x ) c == bool 1`,
		`absent(up{job="x"}) or a[5m] < 1`:   `count ( up {job="x"} ) or a [5m] < bool 1`,
	} {
		assert.Equal(t, want, deploytest.Open(expr))
	}
}
