package status

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// line makes s readable on one line: line breaks become "; ", repeated lines are
// left out, tabs become spaces, and invisible characters, such as a mark that
// reverses the direction of writing, become their escape sequences.
func line(s string) string {
	var text, last string
	for part := range strings.FieldsFuncSeq(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return r == '\n' || r == '\r' }) {
		part = strings.ReplaceAll(strings.TrimSpace(part), "\t", " ")
		switch {
		case part == "" || part == last:
			continue
		case strings.HasSuffix(last, ":"):
			text += " "
		case last != "":
			text += "; "
		}
		text, last = text+part, part
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}

const nbsp = "\u00a0" // between a number and its unit

// duration writes d in two units at most, such as "2 h 5 min".
func duration(d time.Duration) string {
	if 100*time.Millisecond <= d && d < 10*time.Second {
		d = d.Round(100 * time.Millisecond)
	}
	switch {
	case 0 < d && d < 100*time.Millisecond:
		return fmt.Sprintf("%d%sms", max(1, d.Milliseconds()), nbsp)
	case d < 10*time.Second && d%time.Second > 0:
		return fmt.Sprintf("%.1f%ss", d.Seconds(), nbsp)
	}
	units := []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	for i, u := range units[:3] {
		if d >= u.length {
			text, minor := fmt.Sprintf("%d%s%s", d/u.length, nbsp, u.name), units[i+1]
			if rest := d % u.length / minor.length; rest > 0 {
				text += fmt.Sprintf("%s%d%s%s", nbsp, rest, nbsp, minor.name)
			}
			return text
		}
	}
	return fmt.Sprintf("%d%ss", d/time.Second, nbsp)
}

// size writes a number of bytes in units of 1024: 1.5 GiB.
func size(bytes int64) string {
	unit, n := 0, float64(bytes)
	for ; n >= 1024 && unit < 4; unit++ {
		n /= 1024
	}
	return strconv.FormatFloat(math.Round(10*n)/10, 'f', -1, 64) + " " + [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit]
}

// count writes n with commas between the thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rate writes a number of rows per second, small ones with a decimal.
func rate(r float64) string {
	if r > 0 && r < 9.95 {
		return strconv.FormatFloat(max(r, 0.1), 'f', 1, 64)
	}
	return count(int64(math.Round(r)))
}
