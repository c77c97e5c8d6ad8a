package row

import "fmt"

// Type is the SQL type of a column, for a sink that creates a table or a schema. The
// zero value is not known.
type Type struct {
	// Name is the type in the words of the database, such as "numeric(12,2)". It is
	// empty if it is not known.
	Name string

	// Class is what all values of the column are. It is never guessed: that of a
	// TINYINT(1) is Integer, and that of an INTEGER of SQLite is Unknown, because
	// such a column may hold text. STRICT tables of SQLite have known types.
	Class Class

	// Bits is the size of an integer or a float: 8, 16, 24, 32 or 64.
	Bits int

	// Length is the maximum length of text in characters, or of binary data in
	// bytes. 0 means unlimited or unknown.
	Length int

	// Precision is the number of digits of a decimal; Scale is how many of them
	// follow the point. A Precision of 0 means that they are not limited, or not known.
	Precision, Scale int

	// NotNull is true if the column cannot hold NULL. False also means not known.
	NotNull bool
}

// Class says what the values of a column are. The zero value is Unknown. The text of a
// value, and the form that it has in JSON, are a matter of its [Kind].
type Class uint8

// The classes of types.
const (
	Unknown      Class = iota // not known, or none of the others
	Boolean                   // true or false
	Integer                   // a signed integer of Type.Bits
	Unsigned                  // an unsigned integer of at most Type.Bits
	Decimal                   // an exact number; in Postgres also NaN and infinities
	Float                     // a floating-point number of Type.Bits
	String                    // text
	Binary                    // bytes
	CalendarDate              // a date
	TimeOfDay                 // a time of day without a time zone
	TimeOfDayTZ               // a time of day with an offset
	DateTime                  // a date and time without a time zone
	Instant                   // a point in time
	Interval                  // a length of time
	Document                  // JSON
	UUID                      // a UUID
	Array                     // an array; Type.Name says of what
)

var classNames = [...]string{"Unknown", "Boolean", "Integer", "Unsigned", "Decimal", "Float", "String", "Binary",
	"CalendarDate", "TimeOfDay", "TimeOfDayTZ", "DateTime", "Instant", "Interval", "Document", "UUID", "Array"}

// String returns the name of the class.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}
