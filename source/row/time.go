package row

import (
	"bytes"
	"time"
)

// AppendTime appends the text that a time has in a column of a kind.
func AppendTime(dst []byte, kind Kind, t time.Time) []byte {
	switch kind {
	case Time, TimeTZ:
		if year, _, day := t.Date(); year == 0 && day == 2 && isMidnight(t) {
			dst = append(dst, "24:00:00"...) // lib/pq returns 24:00 as midnight of the next day
		} else {
			dst = appendClock(dst, t)
		}
		if kind == TimeTZ {
			dst = appendOffset(dst, t)
		}
		return dst
	case Date, Timestamp:
	case TimestampTZ:
		t = t.UTC()
	default:
		// ncruces/go-sqlite3 returns text in this format as a time.Time. Writing
		// it in the same format restores the text.
		if year := t.Year(); 0 <= year && year <= 9999 {
			return t.AppendFormat(dst, time.RFC3339Nano)
		}
		t = t.UTC()
	}
	year, month, day := t.Date()
	bc := year < 1
	if bc {
		year = 1 - year
	}
	dst = appendPadded(dst, year, 1000)
	dst = append(dst, '-')
	dst = appendPadded(dst, int(month), 10)
	dst = append(dst, '-')
	dst = appendPadded(dst, day, 10)
	if kind != Date {
		dst = appendClock(append(dst, 'T'), t)
		if kind != Timestamp {
			dst = append(dst, 'Z')
		}
	}
	if bc {
		dst = append(dst, " BC"...)
	}
	return dst
}

func isMidnight(t time.Time) bool {
	hour, minute, second := t.Clock()
	return hour|minute|second|t.Nanosecond() == 0
}

// appendClock appends the time of day, without trailing zeros in its fraction.
func appendClock(dst []byte, t time.Time) []byte {
	hour, minute, second := t.Clock()
	dst = appendPadded(dst, hour, 10)
	dst = append(dst, ':')
	dst = appendPadded(dst, minute, 10)
	dst = append(dst, ':')
	dst = appendPadded(dst, second, 10)
	n := t.Nanosecond()
	if n == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := 100_000_000; n > 0; unit /= 10 {
		dst = append(dst, byte('0'+n/unit))
		n %= unit
	}
	return dst
}

// appendOffset appends the offset from UTC, with seconds if it has any.
func appendOffset(dst []byte, t time.Time) []byte {
	_, offset := t.Zone()
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = appendPadded(append(dst, sign), offset/3600, 10)
	dst = appendPadded(append(dst, ':'), offset/60%60, 10)
	if offset%60 != 0 {
		dst = appendPadded(append(dst, ':'), offset%60, 10)
	}
	return dst
}

// appendPadded appends n with at least as many digits as unit, a power of ten, has.
func appendPadded(dst []byte, n, unit int) []byte {
	for unit <= n/10 {
		unit *= 10
	}
	for ; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+n/unit%10))
	}
	return dst
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
