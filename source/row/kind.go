package row

import "fmt"

// Kind says how to read what the driver hands out for a column, where its Go
// type does not tell. The zero value is Auto.
type Kind uint8

// The kinds. NULL is NULL in all of them.
const (
	// Auto goes by the Go type: []byte is binary, string is text, numbers and
	// bools are literals, a time.Time is RFC 3339 with the offset it has.
	Auto Kind = iota
	// Text takes []byte for text. Numbers, bools and times are as in Auto.
	Text
	// Number takes []byte and strings for a number's digits and removes leading
	// zeros. What is no JSON number, such as NaN, is text.
	Number
	// Float32 writes a float that has 32 bits of precision, which drivers hand
	// out as 64 bits.
	Float32
	// Bit takes []byte for a big-endian unsigned number, as MySQL's BIT is.
	Bit
	// Bytes takes strings for binary data too.
	Bytes
	// JSON checks JSON text and removes white space between its tokens. What is
	// no valid JSON is text.
	JSON
	// JSONB takes JSON text as it is, unchecked: the database vouches that it is
	// valid JSON of one line. Postgres does so for jsonb.
	JSONB
	// Date is a day of the calendar.
	Date
	// Time is a time of day, without a zone.
	Time
	// TimeTZ is a time of day with an offset, which is kept.
	TimeTZ
	// Timestamp is a day and time without a zone. The clock of a time.Time is
	// written as it stands.
	Timestamp
	// TimestampTZ is a moment. A time.Time is written in UTC.
	TimestampTZ
)

var kindNames = [...]string{"Auto", "Text", "Number", "Float32", "Bit", "Bytes", "JSON", "JSONB",
	"Date", "Time", "TimeTZ", "Timestamp", "TimestampTZ"}

// String returns the kind's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}
