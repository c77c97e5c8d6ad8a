package row

import (
	"bytes"
	"fmt"
	"time"
)

// AppendTime appends the text that a time has in a column of a kind.
func AppendTime(dst []byte, kind Kind, t time.Time) []byte {
	layout := time.RFC3339Nano
	switch kind {
	case Time, TimeTZ:
		return appendClock(dst, kind, t)
	case Date:
		layout = time.DateOnly
	case Timestamp:
		layout = "2006-01-02T15:04:05.999999999"
	case TimestampTZ:
		t = t.UTC()
	default:
		// ncruces/go-sqlite3 returns text in this format as a time.Time. Writing
		// it in the same format restores the text.
		if year := t.Year(); 0 <= year && year <= 9999 {
			return t.AppendFormat(dst, layout)
		}
		t = t.UTC()
	}
	if year := t.Year(); year < 1 { // 0 is 1 BC. Only the digits are replaced: 1 - year need not be a leap year
		dst = fmt.Appendf(dst, "%04d", 1-year)
		return append(t.AppendFormat(dst, layout[len("2006"):]), " BC"...)
	}
	return t.AppendFormat(dst, layout)
}

// appendClock appends the time of day, with the offset from UTC for TimeTZ.
func appendClock(dst []byte, kind Kind, t time.Time) []byte {
	const clock = "15:04:05.999999999"
	if year, _, d := t.Date(); year == 0 && d == 2 && t.Format(clock) == "00:00:00" {
		dst = append(dst, "24:00:00"...) // lib/pq returns 24:00 as midnight of the next day
	} else {
		dst = t.AppendFormat(dst, clock)
	}
	_, offset := t.Zone()
	switch {
	case kind == Time:
		return dst
	case offset%60 != 0:
		return t.AppendFormat(dst, "-07:00:00")
	}
	return t.AppendFormat(dst, "-07:00")
}

// appendTimeText appends a time that the database returned as text, in the format
// of AppendTime: a T before the time of day, no trailing zeros, and minutes in
// the offset. Other text, such as infinity, is unchanged.
func appendTimeText(dst []byte, kind Kind, s []byte) []byte {
	if kind == Timestamp {
		if i := bytes.IndexByte(s, ' '); i > 0 && i+1 < len(s) && isDigit(s[i+1]) {
			dst = append(append(dst, s[:i]...), 'T')
			s = s[i+1:]
		}
	}
	if i := bytes.IndexByte(s, '.'); i > 0 {
		end := i + 1 + countDigits(s[i+1:])
		dst = append(dst, bytes.TrimRight(s[:end], "0")...)
		dst = bytes.TrimSuffix(dst, []byte{'.'})
		s = s[end:]
	}
	dst = append(dst, s...)
	if n := len(s) - 3; kind == TimeTZ && n >= 0 && (s[n] == '+' || s[n] == '-') {
		dst = append(dst, ":00"...)
	}
	return dst
}
