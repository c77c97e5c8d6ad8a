package diffsource

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
)

// sameValue reports whether column i of r and column j of s have the same value, in the sense of
// [Comparison].
func sameValue(r row.Row, i int, s row.Row, j int) bool {
	if r.IsNull(i) || s.IsNull(j) {
		return r.IsNull(i) && s.IsNull(j)
	}
	if r.IsBinary(i) != s.IsBinary(j) {
		return false
	}
	a, b := r.Text(i), s.Text(j)
	if a == b || r.IsBinary(i) {
		return a == b
	}
	x, y := r.Columns().Kind(i), s.Columns().Kind(j)
	switch {
	case isJSON(x) || isJSON(y):
		return sameJSON(a, b)
	case isTime(x) || isTime(y):
		return sameTime(a, b)
	case !r.IsString(i) || !s.IsString(j):
		return sameNumber(a, b)
	}
	u, v := r.Columns().Type(i).Class, s.Columns().Type(j).Class
	return (u == row.UUID || v == row.UUID) && strings.EqualFold(a, b)
}

func isJSON(k row.Kind) bool { return k == row.JSON || k == row.JSONB }

func isTime(k row.Kind) bool {
	return k == row.Date || k == row.Time || k == row.Timestamp || k == row.TimestampTZ
}

// maxExponent is the largest exponent of a number that is compared as one: beyond it a
// number of a few bytes has millions of digits.
const maxExponent = 400

// sameNumber reports whether two texts are the same number. True is 1, and false is 0.
func sameNumber(a, b string) bool {
	x, okX := number(a)
	y, okY := number(b)
	return okX && okY && x.Cmp(y) == 0
}

func number(s string) (*big.Rat, bool) {
	switch s {
	case "true":
		s = "1"
	case "false":
		s = "0"
	}
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return nil, false
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(s), "e"); ok {
		n, ok := new(big.Int).SetString(exponent, 10)
		if !ok || n.CmpAbs(big.NewInt(maxExponent)) > 0 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// layouts are those of dates, times of day and points in time. A fraction is accepted with each.
var layouts = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02", "15:04:05", "15:04"}

// sameTime reports whether two texts are the same time. One without a zone is taken for UTC.
func sameTime(a, b string) bool {
	x, okX := parseTime(a)
	y, okY := parseTime(b)
	return okX && okY && x.Equal(y)
}

func parseTime(s string) (time.Time, bool) {
	if len(s) > 10 && s[10] == ' ' {
		s = s[:10] + "T" + s[11:]
	}
	if n := len(s); n > 14 && (s[n-3] == '+' || s[n-3] == '-') && s[10] == 'T' { // an offset of hours alone
		s += ":00"
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// sameJSON reports whether two texts are the same JSON value: the order of members and the spelling
// of numbers do not count.
func sameJSON(a, b string) bool {
	x, okX := parseJSON(a)
	y, okY := parseJSON(b)
	return okX && okY && equalJSON(x, y)
}

func parseJSON(s string) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	err := d.Decode(&v)
	return v, err == nil && !d.More()
}

func equalJSON(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for name, v := range x {
			w, ok := y[name]
			if !ok || !equalJSON(v, w) {
				return false
			}
		}
		return true
	case []any:
		y, ok := y.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equalJSON(x[i], y[i]) {
				return false
			}
		}
		return true
	case json.Number:
		y, ok := y.(json.Number)
		return ok && (x == y || sameNumber(x.String(), y.String()))
	}
	return x == y
}
