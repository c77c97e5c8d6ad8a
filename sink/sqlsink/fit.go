package sqlsink

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/row"
)

// traits are what differs between the databases where values are checked.
type traits struct {
	anyCase bool // columns' names are compared without regard to case
	loose   bool // columns take values of any type, by their affinity
	special bool // numbers and times have NaN, infinities and years before 1 and after 9999
	noNUL   bool // text cannot contain NUL
	noZone  bool // a type for points in time does not exist: they are written in UTC
}

// decimals says how many digits an unsigned integer of so many bits can have.
var decimals = map[int]int{8: 3, 16: 5, 24: 8, 32: 10, 64: 20}

// fits reports whether a type of the source can be written into a column. proven is true if each
// value of the type fits, so that no value needs to be checked. why says why the types do not
// fit. A limit that the source does not state is checked value by value.
func fits(from row.Type, c *column, tr traits) (proven bool, why string) {
	into := c.typ
	if tr.loose && into.Class == row.Unknown || from.Class == row.Unknown {
		return false, ""
	}
	switch into.Class {
	case row.Unknown, row.Interval, row.Document, row.UUID, row.Array, row.TimeOfDayTZ:
		return fitsText(from, into)
	case row.Boolean:
		if from.Class == row.Boolean || from.Class == row.Integer && from.Bits == 8 || from.Class == row.Unsigned {
			return from.Class == row.Boolean, ""
		}
	case row.Integer, row.Unsigned, row.Decimal, row.Float:
		return fitsNumber(from, into)
	case row.String:
		return fitsString(from, into)
	case row.Binary:
		if from.Class == row.Binary {
			return limit(from.Length, into.Length, "it can be longer")
		}
	case row.CalendarDate, row.TimeOfDay, row.DateTime, row.Instant:
		return fitsTime(from, c, tr)
	}
	return false, differ
}

const differ = "a value of the one is not a value of the other"

// fitsText is for types whose text only the database knows.
func fitsText(from, into row.Type) (bool, string) {
	if from.Class == into.Class && into.Class != row.Unknown {
		return true, ""
	}
	if from.Class == row.Binary {
		return false, differ
	}
	if into.Class == row.Unknown || from.Class == row.String {
		return false, ""
	}
	return false, differ
}

func fitsNumber(from, into row.Type) (bool, string) {
	switch from.Class {
	case row.Boolean:
		return false, ""
	case row.Integer, row.Unsigned:
		return fitsInteger(from, into)
	case row.Decimal:
		if into.Class != row.Decimal {
			return false, differ
		}
		if into.Precision == 0 {
			return true, ""
		}
		if from.Precision == 0 {
			return false, ""
		}
		if from.Scale > into.Scale || from.Precision-from.Scale > into.Precision-into.Scale {
			return false, "it can have more digits"
		}
		return false, "" // NaN
	case row.Float:
		if into.Class != row.Float {
			return false, differ
		}
		return limit(from.Bits, into.Bits, "it has more bits")
	}
	return false, differ
}

func fitsInteger(from, into row.Type) (bool, string) {
	signed := from.Class == row.Integer
	ok := false
	switch into.Class {
	case row.Integer:
		ok = from.Bits <= into.Bits && (signed || from.Bits < into.Bits)
	case row.Unsigned:
		if signed {
			return false, "it can be negative"
		}
		ok = from.Bits <= into.Bits
	case row.Decimal:
		digits := decimals[from.Bits]
		if signed && from.Bits == 64 {
			digits = 19
		}
		ok = into.Precision == 0 || digits <= into.Precision-into.Scale
	case row.Float:
		ok = from.Bits <= 32 && into.Bits == 64 || from.Bits <= 24 && into.Bits == 32
	}
	if !ok {
		return false, "it can be greater"
	}
	return true, ""
}

func fitsString(from, into row.Type) (bool, string) {
	switch from.Class {
	case row.Binary:
		return false, differ
	case row.String:
		proven, why := limit(from.Length, into.Length, "it can be longer")
		return proven && from.Length > 0, why // an enum has no length, and is checked
	}
	return false, ""
}

func fitsTime(from row.Type, c *column, tr traits) (bool, string) {
	same := from.Class == c.typ.Class
	switch {
	case from.Class == row.String:
		return false, ""
	case same, from.Class == row.Instant && c.typ.Class == row.DateTime && tr.noZone:
	case from.Class == row.DateTime && c.typ.Class == row.Instant:
		return false, "it has no time zone, so it is not known which point in time it is"
	default:
		return false, differ
	}
	digits := fractionOf(from.Name)
	if digits > c.fraction && c.fraction >= 0 {
		return false, "it can have more digits of a second"
	}
	return same && tr.special && (digits >= 0 || from.Class == row.CalendarDate), ""
}

// limit compares two limits. 0 means unlimited or unknown.
func limit(from, into int, why string) (proven bool, _ string) {
	if into > 0 && from > into {
		return false, why
	}
	return into == 0 || from > 0, ""
}

var fractions = regexp.MustCompile(`^(?:time|timetz|timestamp|timestamptz|datetime)\((\d)\)`)

// fractionOf returns how many digits of a second a type has, or -1 if its name does not say it.
func fractionOf(name string) int {
	name = strings.ToLower(name)
	if m := fractions.FindStringSubmatch(name); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	if strings.HasSuffix(name, " time zone") {
		return 6
	}
	return -1
}
