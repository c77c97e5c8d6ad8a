package status

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                               "0 s",
		1:                               "1 ms",
		49 * time.Millisecond:           "49 ms",
		99999 * time.Microsecond:        "99 ms",
		400 * time.Millisecond:          "0.4 s",
		3 * time.Second:                 "3 s",
		9940 * time.Millisecond:         "9.9 s",
		2970 * time.Millisecond:         "3 s",
		9960 * time.Millisecond:         "10 s",
		10500 * time.Millisecond:        "10 s",
		59900 * time.Millisecond:        "59 s",
		time.Minute:                     "1 min",
		65 * time.Second:                "1 min 5 s",
		time.Hour:                       "1 h",
		2*time.Hour + 5*time.Minute + 9: "2 h 5 min",
		76 * time.Hour:                  "3 d 4 h",
		math.MaxInt64:                   "106751 d 23 h",
	} {
		assert.Equal(t, want, strings.ReplaceAll(duration(d), nbsp, " "))
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000",
		math.MaxInt64: "9,223,372,036,854,775,807",
	} {
		assert.Equal(t, want, count(n))
	}
	for r, want := range map[float64]string{0: "0", 0.01: "0.1", 2.34: "2.3", 9.94: "9.9", 9.96: "10", 12345.6: "12,346"} {
		assert.Equal(t, want, rate(r))
	}
}

func TestTextIsReadableOnOneLine(t *testing.T) {
	for s, want := range map[string]string{
		"orders, größer, 注文":                   "orders, größer, 注文",
		"a\u202eb\u2066":                       `a\u202eb\u2066`,
		"zero\u200bwidth\x00":                  `zero\u200bwidth\x00`,
		"bad\xffbytes":                         "bad\uFFFDbytes",
		"two\nlines\r\t":                       "two; lines",
		"x:\n\tdial error\n\tdial error\n\tno": "x: dial error; no",
		"\n\n a\tb \r\n\n\tc\n":                "a b; c",
		"failed to connect to `user=ada database=shop`:\n\t127.0.0.1:1 (127.0.0.1): dial error\n\t[::1]:1 (::1): dial error": "failed to connect to `user=ada database=shop`: 127.0.0.1:1 (127.0.0.1): dial error; [::1]:1 (::1): dial error",
		`"quotes" 'and' \`: `"quotes" 'and' \`,
	} {
		assert.Equal(t, want, line(s))
	}
}

func TestScales(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 1: 1, 1.1: 2, 2413: 3000, 6001: 8000, 8001: 10000, 1e12: 1e12} {
		assert.Equal(t, want, niceNumber(v), v)
	}
	for d, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 11 * time.Second: 20 * time.Second, 5 * time.Minute: 6 * time.Minute,
		12 * time.Hour: 12 * time.Hour, 13 * time.Hour: 24 * time.Hour, 100 * time.Hour: 120 * time.Hour,
	} {
		assert.EqualValues(t, want, niceDuration(float64(d)), d)
	}
}

func TestStairs(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		values     []float64
		line, area string
	}{
		{nil, "", ""},
		{[]float64{nan, nan}, "", ""},
		{[]float64{0, 10}, "M178 100H179V0H180", "M178 100V100H179V0H180V100Z"},
		{[]float64{5, 5, 5}, "M177 50H180", "M177 100V50H180V100Z"},
		{[]float64{1, nan, 1}, "M177 90H178M179 90H180", "M177 100V90H178V100ZM179 100V90H180V100Z"},
	} {
		line, area := stair(c.values, 10)
		assert.Equal(t, c.line, line)
		assert.Equal(t, c.area, area)
	}
	long := make([]float64, steps)
	line, _ := stair(long, 1)
	assert.Equal(t, "M0 100H180", line)
}
