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
	var b strings.Builder
	separator, last := "", ""
	for part := range strings.FieldsFuncSeq(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if part = strings.ReplaceAll(strings.TrimSpace(part), "\t", " "); part == "" || part == last {
			continue
		}
		last = part
		b.WriteString(separator)
		for _, r := range part {
			if unicode.IsPrint(r) {
				b.WriteRune(r)
				continue
			}
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		separator = "; "
		if strings.HasSuffix(part, ":") {
			separator = " "
		}
	}
	return b.String()
}

const nbsp = "\u00a0" // between a number and its unit

// duration writes d in two units at most, such as "2 h 5 min".
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(major, minor time.Duration, units ...string) string {
		s := fmt.Sprintf("%d%s%s", d/major, nbsp, units[0])
		if rest := d % major / minor; rest > 0 {
			s += fmt.Sprintf("%s%d%s%s", nbsp, rest, nbsp, units[1])
		}
		return s
	}
	if 100*time.Millisecond <= d && d < 10*time.Second {
		d = d.Round(100 * time.Millisecond)
	}
	switch {
	case 0 < d && d < 100*time.Millisecond:
		return fmt.Sprintf("%d%sms", max(1, d.Milliseconds()), nbsp)
	case d < 10*time.Second && d%time.Second > 0:
		return fmt.Sprintf("%.1f%ss", d.Seconds(), nbsp)
	case d < time.Minute:
		return fmt.Sprintf("%d%ss", d/time.Second, nbsp)
	case d < time.Hour:
		return two(time.Minute, time.Second, "min", "s")
	case d < day:
		return two(time.Hour, time.Minute, "h", "min")
	}
	return two(day, time.Hour, "d", "h")
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
