package dialect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/artifactofdevotion/devotion/retry"
)

// Value is one value of a key, as it stands in a cursor.
type Value struct {
	Tag  byte   // the type that the driver returned: one of the tags
	Text string // the value in its canonical form
}

// The tags of values.
const (
	Int   = 'i' // an int64 or uint64
	Float = 'f'
	Text  = 's' // also numerics, and times as the database writes them
	Bytes = 'b' // in hex
	Time  = 't' // of At: RFC 3339
	Given = 'g' // of At: a string, which may stand for any type
)

// Integer returns the value as an int64, or as a uint64 if it is too large.
func (v Value) Integer() (any, error) {
	if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
		return n, nil
	}
	return strconv.ParseUint(v.Text, 10, 64)
}

// Bytes returns a binary value. At may have been given a string.
func (v Value) Bytes() ([]byte, error) {
	switch v.Tag {
	case Bytes:
		return hex.DecodeString(v.Text)
	case Text, Given:
		return []byte(v.Text), nil
	}
	return nil, errors.New("it is not binary, the column is")
}

// String returns the value for messages, quoted if it is text.
func (v Value) String() string {
	switch v.Tag {
	case Int, Float:
		return v.Text
	case Bytes:
		return "0x" + v.Text
	}
	return strconv.QuoteToASCII(v.Text)
}

// BindText is a Bind that binds the text and leaves its type to the database.
func BindText(v Value) (string, any, error) {
	if v.Tag == Bytes {
		return "%s", nil, errors.New("it is binary, the column is not")
	}
	return "%s", v.Text, nil
}

// BindBytes is a Bind for binary columns.
func BindBytes(v Value) (string, any, error) {
	b, err := v.Bytes()
	return "%s", b, err
}

// Misfit returns the error for a value that Bind refused.
func Misfit(c KeyColumn, v Value, err error) error {
	return Permanent("the cursor's value %s does not fit the key column %q: %w; rewind to a cursor that At returns", v, c.Name, err)
}

// Permanent returns an error that retrying does not help against. Package
// sqlsource puts its own name and that of the table in front.
func Permanent(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf(format, args...))
}
