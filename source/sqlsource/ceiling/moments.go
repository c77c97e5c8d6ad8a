package ceiling

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// moments is how the values of a column stand for moments. A moment is a number of microseconds since
// 1970: of UTC or, for times without a time zone, as the writers' clocks on the wall show it.
type moments struct {
	name   string         // of the values, for people: "Unix milliseconds"
	zone   *time.Location // of the writers' clocks
	step   int64          // the microseconds between two values that are told apart
	parse  func(text string) (micros int64, ok bool)
	encode func(micros int64) any // the least value of a moment, to compare the column with

	sorted func() []string // texts that the column must sort like this; nil: any column does
}

// at returns the moment below which no value can be given any more after t. Where a clock on the wall is set
// back for the winter, it shows an hour twice. So in the hour before, that is the beginning of this hour.
func (m *moments) at(t time.Time) int64 {
	t = t.In(m.zone)
	micros := wall(t)
	if _, end := t.ZoneBounds(); !end.IsZero() {
		micros = min(micros, wall(end.In(m.zone)))
	}
	return micros - micros%m.step
}

func wall(t time.Time) int64 {
	_, offset := t.Zone()
	return t.UnixMicro() + int64(offset)*1e6
}

var offset = regexp.MustCompile(`^([+-])(\d\d):([0-5]\d)$`)

// loadZone returns a time zone by its name, or by its offset from UTC, such as +09:00. It is nil without a name.
func loadZone(name string) (*time.Location, error) {
	m := offset.FindStringSubmatch(name)
	switch {
	case name == "":
		return nil, nil
	case name == "Local": // of this machine, whatever that is
		return nil, errors.New("unknown time zone Local")
	case m == nil:
		return time.LoadLocation(name)
	}
	hours, _ := strconv.Atoi(m[2])
	minutes, _ := strconv.Atoi(m[3])
	seconds := hours*3600 + minutes*60
	if m[1] == "-" {
		seconds = -seconds
	}
	return time.FixedZone(name, seconds), nil
}

var (
	binaryTypes = regexp.MustCompile(`(?i)^(BYTEA|(VAR)?BINARY|BLOB)$`)
	timeText    = regexp.MustCompile(`^\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]00(:?00)?)?$`)
	uuidText    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}-?7[0-9a-fA-F]{3}-?[89abAB][0-9a-fA-F]{3}-?[0-9a-fA-F]{12}$`)
	ulidText    = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$`)
	integer     = regexp.MustCompile(`^\d{1,19}$`)
)

// earliest is the least moment that a number or an id may stand for: 2000-01-01. A lower one is not a time.
const earliest = 946684800e6

// momentsOf returns how the values of a column stand for moments, by its type or else by its least and greatest value.
// It is nil if they do not.
func (c Stamp) momentsOf(t Table, zone *time.Location, ends []string) *moments {
	typ := t.Key[0].Type
	if layout, utc := t.SQL.TimeLayout(typ); layout != "" {
		return timesOf(layout, utc, zone)
	}
	var m *moments
	switch greatest := ends[1]; {
	case timeText.MatchString(greatest):
		m = textsLike(greatest, zone)
	case uuidText.MatchString(greatest):
		m = uuidsLike(greatest, binaryTypes.MatchString(typ))
	case ulidText.MatchString(greatest):
		m = ulidsLike(greatest)
	case integer.MatchString(greatest) && !c.Epoch.IsZero():
		m = snowflakes(c.Epoch, c.bits())
	case integer.MatchString(greatest):
		m = unixLike(greatest)
	default:
		return nil
	}
	for _, text := range ends {
		if micros, ok := m.parse(text); !ok || micros < earliest {
			return nil
		}
	}
	return m
}

// longAgo and never are the moments of values outside of the common calendar.
const (
	longAgo = math.MinInt64 / 2
	never   = math.MaxInt64 / 2
)

// timesOf is for a type of times of the database. What is not a time of a common calendar is before all others, as
// -infinity, times before Christ and the zero date of MariaDB are, or later than all others, as infinity is.
func timesOf(layout string, utc bool, zone *time.Location) *moments {
	m := &moments{name: "times", zone: zone, step: 1, encode: func(micros int64) any { return time.UnixMicro(micros).UTC().Format(layout) }}
	if utc {
		m.zone = time.UTC
	}
	m.parse = func(text string) (int64, bool) {
		if micros, ok := parseTime(text); ok {
			return micros, true
		}
		if text == "-infinity" || strings.HasSuffix(text, " BC") || strings.HasPrefix(text, "0000-") {
			return longAgo, true
		}
		return never, true
	}
	return m
}

func parseTime(text string) (micros int64, ok bool) {
	if !timeText.MatchString(text) {
		return 0, false
	}
	t, err := time.Parse("2006-01-02 15:04:05", text[:10]+" "+text[11:19])
	if err != nil {
		return 0, false
	}
	fraction := strings.TrimLeft(text[19:], ".")
	if i := strings.IndexAny(fraction, "Z+-"); i >= 0 {
		fraction = fraction[:i]
	}
	n, _ := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	return t.UnixMicro() + n, true
}

// textsLike is for times in texts of ISO 8601, which are compared as texts. A text without a fraction is the beginning of
// all texts of its second, and not greater than any.
func textsLike(text string, zone *time.Location) *moments {
	layout := "2006-01-02" + text[10:11] + "15:04:05"
	m := &moments{name: "times in text", zone: zone, step: 1e6, encode: func(micros int64) any { return time.UnixMicro(micros).UTC().Format(layout) }}
	if inUTC(text) {
		m.zone = time.UTC
	}
	m.parse = func(other string) (int64, bool) {
		micros, ok := parseTime(other)
		return micros, ok && other[10] == text[10] && inUTC(other) == inUTC(text)
	}
	return m
}

// inUTC reports whether a time ends with its offset from UTC, which is 0.
func inUTC(text string) bool { return len(text) > 19 && strings.ContainsAny(text[19:], "Z+-") }

// unixLike is for numbers of seconds, or of parts of a second, since 1970. From 1973 on, the numbers tell which they are.
func unixLike(text string) *moments {
	m := &moments{zone: time.UTC}
	for _, unit := range []struct {
		name           string
		digits         int
		factor, divide int64
	}{{"Unix seconds", 11, 1e6, 1}, {"Unix milliseconds", 14, 1e3, 1}, {"Unix microseconds", 17, 1, 1}, {"Unix nanoseconds", 19, 1, 1e3}} {
		if len(text) > unit.digits {
			continue
		}
		m.name, m.step = unit.name, unit.factor
		m.encode = func(micros int64) any { return micros / unit.factor * unit.divide }
		m.parse = func(other string) (int64, bool) {
			n, err := strconv.ParseInt(other, 10, 64)
			return n / unit.divide * unit.factor, err == nil && integer.MatchString(other) && len(other) <= unit.digits && len(other) > unit.digits-3
		}
		break
	}
	return m
}

// snowflakes is for numbers with the milliseconds since an epoch above the last bits.
func snowflakes(epoch time.Time, bits int) *moments {
	return &moments{
		name: "snowflake ids", zone: time.UTC, step: 1000,
		encode: func(micros int64) any { return max(micros/1000-epoch.UnixMilli(), 0) << bits },
		parse: func(text string) (int64, bool) {
			n, err := strconv.ParseInt(text, 10, 64)
			return (n>>bits + epoch.UnixMilli()) * 1000, err == nil && n >= 0
		},
	}
}

// uuidsLike is for UUIDs of version 7, as text or, in binary columns, as bytes that the text shows in hex.
func uuidsLike(text string, binary bool) *moments {
	dashes, upper := strings.Contains(text, "-"), isUpper(text)
	encode := func(micros int64) any {
		id := fmt.Sprintf("%012x70008000000000000000", max(micros, 0)/1000)
		switch {
		case binary:
			b, _ := hex.DecodeString(id)
			return b
		case upper:
			id = strings.ToUpper(id)
		}
		if dashes {
			id = strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
		}
		return id
	}
	parse := func(other string) (int64, bool) {
		ok := uuidText.MatchString(other) && strings.Contains(other, "-") == dashes && isUpper(other) == upper
		if !ok {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(other, "-", "")[:12], 16, 64)
		return n * 1000, err == nil
	}
	m := &moments{name: "UUIDs of version 7", zone: time.UTC, step: 1000, encode: encode, parse: parse}
	if !binary {
		m.sorted = func() []string { return pairs("0123456789abcdef", text, 0) }
	}
	return m
}

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ulidsLike is for ULIDs: ten digits of the base 32 for the milliseconds since 1970, and sixteen more.
func ulidsLike(text string) *moments {
	upper := isUpper(text)
	encode := func(micros int64) any {
		id := []byte(strings.Repeat("0", 26))
		for i, ms := 9, max(micros, 0)/1000; i >= 0; i, ms = i-1, ms/32 {
			id[i] = crockford[ms%32]
		}
		if !upper {
			return strings.ToLower(string(id))
		}
		return string(id)
	}
	parse := func(other string) (ms int64, ok bool) {
		if !ulidText.MatchString(other) || isUpper(other) != upper {
			return 0, false
		}
		for _, c := range strings.ToUpper(other[:10]) {
			ms = ms*32 + int64(strings.IndexRune(crockford, c))
		}
		return ms * 1000, true
	}
	sorted := func() []string { return pairs(crockford, text, 1) }
	return &moments{name: "ULIDs", zone: time.UTC, step: 1000, encode: encode, parse: parse, sorted: sorted}
}

// pairs returns texts like text, with each pair of digits at some place, in their order. In some languages two letters
// together are one of another place in the alphabet, such as aa in Danish.
func pairs(digits, text string, at int) (all []string) {
	if !isUpper(text) {
		digits = strings.ToLower(digits)
	}
	for _, a := range digits {
		for _, b := range digits {
			all = append(all, text[:at]+string(a)+string(b)+text[at+2:])
		}
	}
	// A database that compares the end first has these two in the other order.
	zeros, full := strings.Repeat("0", 12), strings.Repeat(digits[len(digits)-1:], 12)
	end := len(text) - len(zeros)
	all[0], all[1] = all[0][:end]+full, all[1][:end]+zeros
	return all
}

// isUpper reports whether a text has no small letter. Small and capital letters are ordered differently.
func isUpper(text string) bool { return text == strings.ToUpper(text) }
