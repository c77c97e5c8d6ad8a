package status

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// text makes s fit to be shown to people: what cannot be seen, such as a mark
// that turns the direction of writing, is shown by its code. Lines stay.
func text(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}

// line is text on one line.
func line(s string) string { return strings.ReplaceAll(text(s), "\n", `\n`) }

const nbsp = "\u00a0" // between a number and its unit

// duration is d as people say it, in two units at most.
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

// rate writes rows a second: small ones with a decimal.
func rate(r float64) string {
	if r > 0 && r < 9.95 {
		return strconv.FormatFloat(max(r, 0.1), 'f', 1, 64)
	}
	return count(int64(math.Round(r)))
}

func plural(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return count(int64(n)) + " " + many
}
