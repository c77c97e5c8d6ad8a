package sqlsource

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

func number(x any) (value, error) {
	switch v := reflect.ValueOf(x); v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return value{tagInt, strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return value{tagInt, strconv.FormatUint(v.Uint(), 10)}, nil
	case reflect.Float32, reflect.Float64:
		return value{tagFloat, strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())}, nil
	case reflect.String:
		return value{tagGiven, v.String()}, nil
	}
	return value{}, fmt.Errorf("is a %T; use an integer, a string, []byte or time.Time", x)
}

// keys has the keys of the row being read and of the one before. Its cells are
// scanned into beside the row's own, and take no memory per row.
type keys struct {
	names     []string
	now, last []cell
	hasLast   bool
}

// cell is one value of a key, as value is, in memory that is used again.
type cell struct {
	tag  byte
	text []byte
}

func newKeys(columns []keyColumn, after []value) *keys {
	k := &keys{now: make([]cell, len(columns)), last: make([]cell, len(columns)), hasLast: after != nil}
	for i, c := range columns {
		k.names = append(k.names, c.name)
		if after != nil {
			k.last[i] = cell{after[i].tag, []byte(after[i].text)}
		}
	}
	return k
}

// keep makes the row just scanned the last one.
func (k *keys) keep() { k.now, k.last, k.hasLast = k.last, k.now, true }

// check returns an error if the row just scanned has no key, or that of the row
// before it, or of the cursor.
func (k *keys) check() error {
	same := k.hasLast
	for i, c := range k.now {
		if c.tag == 0 {
			return nullKey(k.names[i])
		}
		same = same && c.tag == k.last[i].tag && bytes.Equal(c.text, k.last[i].text)
	}
	if same {
		return permanent("two rows have the key %s: rows would be lost between batches; choose a key that is unique", k.describe(k.now))
	}
	return nil
}

func nullKey(column string) error {
	return permanent("the key column %q is NULL in a row, which no cursor can pass; declare it NOT NULL, or leave such rows out by a condition", column)
}

// lastValues returns the key of the row that was kept last.
func (k *keys) lastValues() []value {
	values := make([]value, len(k.last))
	for i, c := range k.last {
		values[i] = value{c.tag, string(c.text)}
	}
	return values
}

func (k *keys) describe(cells []cell) string {
	values := make([]value, len(cells))
	for i, c := range cells {
		values[i] = value{c.tag, string(c.text)}
	}
	return describeKey(k.names, values)
}

// describeKey writes a key for messages: id = 42, name = "x".
func describeKey(names []string, values []value) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = fmt.Sprintf("%s = %s", names[i], v)
	}
	return strings.Join(parts, ", ")
}

// inWords writes the key of a cursor for people: created_at 2026-01-31, id 7.
func inWords(names []string, c source.Cursor) string {
	if c == "" || c == Latest {
		return ""
	}
	key, _, err := decode(c, "", len(names))
	if err != nil {
		return ""
	}
	parts := make([]string, len(key))
	for i, v := range key {
		parts[i] = names[i] + " " + v.word()
	}
	return strings.Join(parts, ", ")
}

// keyCell is where database/sql puts one value of the key. If it has a beside,
// the value is also a column of the row.
type keyCell struct {
	keys   *keys
	index  int
	kind   row.Kind
	beside interface{ Scan(any) error }
}

// Scan implements [database/sql.Scanner].
func (c *keyCell) Scan(src any) error {
	d := &c.keys.now[c.index]
	var err error
	d.tag, d.text, err = appendKey(d.text[:0], c.kind, src)
	if err != nil {
		return err
	}
	if c.beside != nil {
		return c.beside.Scan(src)
	}
	return nil
}

func appendKey(dst []byte, kind row.Kind, src any) (byte, []byte, error) {
	switch v := src.(type) {
	case nil:
		return 0, dst, nil
	case int64:
		return tagInt, strconv.AppendInt(dst, v, 10), nil
	case string:
		return tagText, append(dst, v...), nil
	case []byte:
		if kind == row.Bytes || kind == row.Auto {
			return tagBytes, hex.AppendEncode(dst, v), nil
		}
		return tagText, append(dst, v...), nil
	case time.Time:
		return tagText, appendTime(dst, kind, v), nil
	case float64:
		bits := 64
		if kind == row.Float32 {
			bits = 32
		}
		return tagFloat, strconv.AppendFloat(dst, v, 'g', -1, bits), nil
	case bool:
		return tagText, strconv.AppendBool(dst, v), nil
	}
	v, err := number(src) // drivers may go beyond driver.Value
	return v.tag, append(dst, v.text...), err
}

// appendTime writes a time as Postgres reads it. In SQLite it was text in this
// form, which the driver made a time.
func appendTime(dst []byte, kind row.Kind, t time.Time) []byte {
	layout := time.RFC3339Nano
	switch kind {
	case row.Date:
		layout = time.DateOnly
	case row.Timestamp:
		layout = "2006-01-02T15:04:05.999999999"
	case row.TimestampTZ:
		t = t.UTC()
	}
	year := t.Year()
	if year >= 1 || kind == row.Auto {
		return t.AppendFormat(dst, layout)
	}
	// Postgres knows no year 0; the year before 1 is 1 BC. A year of four digits
	// is written in the place of a leap year's, which 1 - year need not be.
	dst = fmt.Appendf(dst, "%04d", 1-year)
	dst = t.AppendFormat(dst, strings.TrimPrefix(layout, "2006"))
	return append(dst, " BC"...)
}

// index returns where the key's columns are among names, -1 if they are not.
func index(names []string, columns []keyColumn) []int {
	at := make([]int, len(columns))
	for i, c := range columns {
		at[i] = slices.Index(names, c.name)
	}
	return at
}
