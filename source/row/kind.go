package row

import "fmt"

// Kind says how to interpret the values that a driver returns for a column, where
// their Go type is ambiguous. The zero value is Auto.
type Kind uint8

// The kinds of columns. NULL is NULL in every kind.
const (
	// Auto uses the Go type: []byte is binary data, string is text, numbers and
	// bools are literals, and a time.Time is written by RFC 3339 with its offset.
	Auto Kind = iota

	// Text treats []byte as text. Numbers, bools and times are written as in
	// Auto.
	Text

	// Number treats []byte and string as the digits of a number, and removes
	// leading zeros. A value that is not a valid JSON number, such as NaN, is
	// text.
	Number

	// Float32 is for columns with 32 bits of precision, which drivers return as
	// float64.
	Float32

	// Bit treats []byte as a big-endian unsigned number, such as BIT of MySQL.
	Bit

	// Bytes treats string as binary data, like []byte.
	Bytes

	// JSON validates JSON text and removes white space between tokens. A value
	// that is not valid JSON is text.
	JSON

	// JSONB uses JSON text unchanged and does not validate it. The database must
	// guarantee valid JSON without line breaks, as Postgres does for jsonb.
	JSONB

	// Date is a calendar date.
	Date

	// Time is a time of day without a time zone.
	Time

	// TimeTZ is a time of day with an offset. The offset is kept.
	TimeTZ

	// Timestamp is a date and time without a time zone. The zone of a time.Time
	// is ignored.
	Timestamp

	// TimestampTZ is a point in time. A time.Time is converted to UTC.
	TimestampTZ
)

var kindNames = [...]string{"Auto", "Text", "Number", "Float32", "Bit", "Bytes", "JSON", "JSONB",
	"Date", "Time", "TimeTZ", "Timestamp", "TimestampTZ"}

// String returns the name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}
