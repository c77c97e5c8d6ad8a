package row

import (
	"bytes"
	"time"
)

// appendTime appends t in the form of its kind. Years before the first are
// written as Postgres does, with BC behind, which it also reads.
func appendTime(dst []byte, kind Kind, t time.Time) []byte {
	switch kind {
	case Time, TimeTZ:
		if year, _, day := t.Date(); year == 0 && day == 2 && isMidnight(t) {
			dst = append(dst, "24:00:00"...) // lib/pq hands it out as the next day
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
		// ncruces/go-sqlite3 hands out text as a time if this is its format:
		// this way it is the text again.
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

// appendClock appends the time of day, its fraction without trailing zeros.
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

// appendPadded appends n with at least as many digits as top has.
func appendPadded(dst []byte, n, top int) []byte {
	for top <= n/10 {
		top *= 10
	}
	for ; top > 0; top /= 10 {
		dst = append(dst, byte('0'+n/top%10))
	}
	return dst
}

// appendTimeText appends a time that came as the database's own text, in the
// form of appendTime: a T before the clock, no trailing zeros, minutes in an
// offset. What is no such text, such as infinity, is left as it is.
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
