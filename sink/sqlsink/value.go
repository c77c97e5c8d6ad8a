package sqlsink

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/artifactofdevotion/devotion/source/row"
)

// value is a cell as it is written.
type value struct {
	text string
	form form
}

type form uint8

const (
	null   form = iota
	text        // a string
	number      // digits, as in JSON
	binary      // base64
)

// value converts a cell, or says why it does not fit. This is the only place that changes texts
// of package row into those of a column.
func (f *field) value(r row.Row) (v value, why string) {
	switch {
	case r.IsUnchanged(f.index):
		return v, "its value is not known"
	case r.IsNull(f.index):
		if f.typ.NotNull {
			return v, "it is NULL, and the column is NOT NULL"
		}
		if f.inKey {
			return v, "it is NULL, and identifies the row"
		}
		return v, ""
	}
	v = value{r.Text(f.index), text}
	if r.IsBinary(f.index) {
		v.form = binary
	}
	if f.traits.loose {
		return f.byAffinity(v, r)
	}
	switch class := f.typ.Class; class {
	case row.Binary:
		return v, f.checkBinary(v)
	case row.Integer, row.Unsigned, row.Decimal, row.Float:
		return f.number(v)
	case row.Boolean:
		switch v.text {
		case "0", "false":
			return value{"false", text}, ""
		case "1", "true":
			return value{"true", text}, ""
		}
		return v, "it is not true or false"
	case row.CalendarDate, row.TimeOfDay, row.DateTime, row.Instant:
		if f.proven {
			return v, ""
		}
		return f.time(v)
	}
	return v, f.checkText(v)
}

func (f *field) checkText(v value) string {
	switch {
	case v.form == binary:
		return "it is binary data, and the column is not"
	case f.traits.noNUL && strings.IndexByte(v.text, 0) >= 0:
		return "it contains NUL, which text of this database cannot"
	case f.typ.Class == row.String && !f.proven && f.typ.Length > 0 && len(v.text) > f.typ.Length && utf8.RuneCountInString(strings.TrimRight(v.text, " ")) > f.typ.Length:
		return "it is too long"
	case f.typ.Class == row.String && !f.padded() && f.typ.Length > 0 && len(v.text) > f.typ.Length && utf8.RuneCountInString(v.text) > f.typ.Length:
		return "it is too long" // the database would cut off spaces
	case !utf8.ValidString(v.text):
		return "it is not valid UTF-8"
	}
	return ""
}

// padded reports whether spaces at the end of a text mean nothing to the type.
func (f *field) padded() bool {
	return strings.HasPrefix(f.typ.Name, "char") && !strings.HasPrefix(f.typ.Name, "character v")
}

func (f *field) checkBinary(v value) string {
	if v.form != binary {
		return "it is text, and the column holds binary data"
	}
	if n := f.typ.Length; n > 0 && base64.StdEncoding.DecodedLen(len(v.text)) > n {
		if b, err := base64.StdEncoding.DecodeString(v.text); err != nil || len(b) > n {
			return "it is too long"
		}
	}
	return ""
}

// number checks a number. It returns a literal of SQL, or NaN or an infinity in quotes.
func (f *field) number(v value) (value, string) {
	switch v.text {
	case "true":
		v.text = "1"
	case "false":
		v.text = "0"
	case "NaN", "Infinity", "-Infinity":
		if f.traits.special && (f.typ.Class == row.Decimal || f.typ.Class == row.Float) {
			return v, ""
		}
		return v, "it is not a finite number"
	}
	digits := strings.TrimPrefix(v.text, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	v.form = number
	switch f.typ.Class {
	case row.Float:
		return f.float(v, digits)
	case row.Decimal:
		if !allDigits(whole) || point && !allDigits(fraction) {
			return v, "it is not a decimal number"
		}
		if f.typ.Precision > 0 && len(strings.TrimRight(fraction, "0")) > max(f.typ.Scale, 0) {
			return v, "it has more digits after the point than the column"
		}
		return v, ""
	}
	return v, f.checkInteger(v.text)
}

func (f *field) float(v value, digits string) (value, string) {
	n, err := strconv.ParseFloat(v.text, 64)
	if err != nil || !numeral(digits) {
		return v, "it is not a number, or out of range"
	}
	if n == 0 && digits != v.text {
		v.text = "-0e0" // an integer has no sign of 0
	}
	if f.typ.Bits != 32 || f.proven && f.traits.special {
		return v, ""
	}
	short, err := strconv.ParseFloat(v.text, 32)
	if err != nil || short != n && !f.proven && strconv.FormatFloat(short, 'g', -1, 32) != strconv.FormatFloat(n, 'g', -1, 64) {
		return v, "it has more digits than the column"
	}
	if n != 0 && !f.traits.special { // a server may compare the greatest number of 32 bits with all its digits
		v.text = strconv.FormatFloat(short, 'g', -1, 64)
	}
	return v, ""
}

func (f *field) checkInteger(text string) string {
	if f.typ.Class == row.Unsigned {
		if n, err := strconv.ParseUint(text, 10, 64); err != nil || f.typ.Bits < 64 && n >= 1<<f.typ.Bits || text[0] == '+' {
			return "it is not an unsigned integer, or out of range"
		}
		return ""
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if shift := f.typ.Bits - 1; err != nil || text[0] == '+' || f.typ.Bits < 64 && (n >= 1<<shift || n < math.MinInt64>>(63-shift)) {
		return "it is not an integer, or out of range"
	}
	return ""
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// numeral reports whether a number that Go can parse is one in SQL: not hexadecimal, and without
// underscores.
func numeral(s string) bool {
	return s != "" && s[0] >= '0' && s[0] <= '9' && strings.Trim(s, "0123456789.eE+-") == ""
}
