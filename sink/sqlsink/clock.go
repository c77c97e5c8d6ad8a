package sqlsink

import (
	"regexp"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
)

var (
	dateText  = `(\d{4,})-\d\d-\d\d`
	clockText = `-?\d\d\d?:\d\d:\d\d(?:\.(\d+))?`
	zoneText  = `(Z|[+-]\d\d(?::?\d\d(?::\d\d)?)?)?`

	dateForm  = regexp.MustCompile(`^` + dateText + `( BC)?$`)
	clockForm = regexp.MustCompile(`^` + clockText + `$`)
	timeForm  = regexp.MustCompile(`^` + dateText + `[T ]` + clockText + zoneText + `( BC)?$`)
)

// time checks a date or a time, and makes text of it that the column takes for the same moment.
func (f *field) time(v value) (value, string) {
	if v.form == binary {
		return v, "it is binary data, and the column is not"
	}
	if v.text == "infinity" || v.text == "-infinity" {
		if f.traits.special && f.typ.Class != row.TimeOfDay {
			return v, ""
		}
		return v, "it is infinite"
	}
	var year, fraction, zone, era string
	var m []string
	switch f.typ.Class {
	case row.CalendarDate:
		if m = dateForm.FindStringSubmatch(v.text); m != nil {
			year, era = m[1], m[2]
		}
	case row.TimeOfDay:
		if m = clockForm.FindStringSubmatch(v.text); m != nil {
			fraction = m[1]
		}
	default:
		if m = timeForm.FindStringSubmatch(v.text); m != nil {
			year, fraction, zone, era = m[1], m[2], m[3], m[4]
		}
	}
	switch {
	case m == nil:
		return v, "it is not in the form of such a date or time"
	case !f.traits.special && (era != "" || len(year) > 4):
		return v, "the year is out of range"
	case f.fraction >= 0 && len(strings.TrimRight(fraction, "0")) > f.fraction:
		return v, "it has more digits of a second than the column"
	}
	return f.zone(v, zone)
}

// zone compares the zone of a time with what the column wants.
func (f *field) zone(v value, zone string) (value, string) {
	switch {
	case f.typ.Class == row.Instant && zone == "":
		return v, "it has no time zone"
	case f.typ.Class != row.DateTime || zone == "":
		return v, ""
	case !f.traits.noZone || f.utc && f.from.Class != row.Instant:
		return v, "it has a time zone, and the column does not"
	}
	if zone == "Z" {
		return value{v.text[:len(v.text)-1], text}, ""
	}
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(v.text, " ", "T", 1))
	if err != nil {
		return v, "it is not a time by RFC 3339"
	}
	return value{t.UTC().Format("2006-01-02T15:04:05.999999999"), text}, ""
}
