package row

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Unchanged is what a source scans in place of a value that did not change and that it
// does not know. Postgres's log, for example, leaves out large values that an update
// did not set. Unchanged is not NULL: whoever applies the change must keep the value.
type Unchanged struct{}

// cell receives the value of one column from database/sql. It copies the value at
// once, because the driver may reuse its buffer.
type cell struct {
	builder *Builder
	index   int
	kind    Kind
}

// Scan appends src to the batch. It implements [database/sql.Scanner].
func (c *cell) Scan(src any) error {
	if err := c.builder.begin(c.index); err != nil {
		return err
	}
	arena, f, err := appendValue(c.builder.b.arena, c.kind, src)
	return c.set(arena, f, err)
}

// set sets the cell to the text that was appended to the arena.
func (c *cell) set(arena []byte, f form, err error) error {
	t := c.builder.b
	if err == nil && len(arena) > maxArena {
		err = fmt.Errorf("a batch can hold %d bytes: fetch fewer rows at a time", maxArena)
	}
	if err != nil {
		return fmt.Errorf("row: column %q: %w", t.columns.names[c.index], err)
	}
	t.arena = arena
	t.cells = append(t.cells, uint32(len(arena))<<formBits|uint32(f))
	return nil
}

// appendValue appends the canonical text of a value that a driver returned.
func appendValue(dst []byte, kind Kind, src any) ([]byte, form, error) {
	switch v := src.(type) {
	case nil:
		return dst, null, nil
	case Unchanged:
		return dst, absent, nil
	case int64:
		return strconv.AppendInt(dst, v, 10), literal, nil
	case string:
		dst, f := appendText(dst, kind, unsafe.Slice(unsafe.StringData(v), len(v)))
		return dst, f, nil
	case []byte: // nil is not NULL here: modernc.org/sqlite returns it for x''
		dst, f := appendBytes(dst, kind, v)
		return dst, f, nil
	case float64:
		bits := 64
		if kind == Float32 {
			bits = 32
		}
		return appendFloat(dst, v, bits)
	case bool:
		return strconv.AppendBool(dst, v), literal, nil
	case time.Time:
		return AppendTime(dst, kind, v), text, nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), literal, nil
	case float32:
		return appendFloat(dst, float64(v), 32)
	}
	// Drivers and fakes may return other types than those of driver.Value.
	switch v := reflect.ValueOf(src); v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), literal, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(dst, v.Uint(), 10), literal, nil
	}
	if m, ok := src.(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return dst, null, err
		}
		dst, f := appendText(dst, kind, b)
		return dst, f, nil
	}
	return dst, null, fmt.Errorf("the driver returned a %T, which has no known text: select the column as text", src)
}

// appendBytes appends a value that the driver returned as bytes. If the kind does not say more, they are binary data.
func appendBytes(dst []byte, kind Kind, s []byte) ([]byte, form) {
	if kind == Auto {
		dst, _ := appendText(dst, Bytes, s)
		return dst, blob
	}
	return appendText(dst, kind, s)
}

// appendText appends a value that the driver returned as bytes or as a string.
func appendText(dst []byte, kind Kind, s []byte) ([]byte, form) {
	switch kind {
	case Number:
		return appendNumber(dst, s)
	case Float32:
		if f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(s), len(s)), 32); err == nil {
			dst, form, _ := appendFloat(dst, f, 32)
			return dst, form
		}
	case Bit:
		if len(s) <= 8 {
			var n uint64
			for _, b := range s {
				n = n<<8 | uint64(b)
			}
			return strconv.AppendUint(dst, n, 10), literal
		}
		return base64.StdEncoding.AppendEncode(dst, s), text
	case Bytes:
		return base64.StdEncoding.AppendEncode(dst, s), text
	case JSON:
		if json.Valid(s) && utf8.Valid(s) {
			return appendCompact(dst, s), literal
		}
	case JSONB:
		if len(s) > 0 {
			return append(dst, s...), literal
		}
	case Time, TimeTZ, Timestamp:
		return appendTimeText(dst, kind, s), text
	}
	return append(dst, s...), text
}

// appendFloat appends the shortest text that parses back to f, in the format of
// encoding/json.
func appendFloat(dst []byte, f float64, bits int) ([]byte, form, error) {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...), text, nil
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...), text, nil
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...), text, nil
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits), literal, nil
}

// appendNumber appends a number without leading zeros. MySQL's ZEROFILL adds them,
// and JSON forbids them.
func appendNumber(dst, s []byte) ([]byte, form) {
	digits, minus := bytes.CutPrefix(s, []byte{'-'})
	for len(digits) > 1 && digits[0] == '0' && isDigit(digits[1]) {
		digits = digits[1:]
	}
	if !isNumber(digits) {
		return append(dst, s...), text
	}
	if minus {
		dst = append(dst, '-')
	}
	return append(dst, digits...), literal
}

// isNumber reports whether s, which has no leading zeros, is a JSON number
// without a sign.
func isNumber(s []byte) bool {
	n := countDigits(s)
	if n == 0 {
		return false
	}
	if s = s[n:]; len(s) > 0 && s[0] == '.' {
		if n = countDigits(s[1:]); n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if len(s) > 0 && s[0]|0x20 == 'e' {
		s = s[1:]
		if len(s) > 0 && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		n = countDigits(s)
		return n > 0 && n == len(s)
	}
	return len(s) == 0
}

func countDigits(s []byte) int {
	for i, c := range s {
		if !isDigit(c) {
			return i
		}
	}
	return len(s)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
