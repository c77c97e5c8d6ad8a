package sqlsource

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// keysBetween is Keys for all kinds of records.
func (s *state) keysBetween(ctx context.Context, of fields, after, to source.Cursor, limit int) ([]source.Cursor, error) {
	at, err := s.begin(ctx, of, after, limit)
	if err != nil {
		return nil, err
	}
	q := s.query
	if after == "" && q.start == Latest || to == Latest {
		return nil, permanent("%s: Keys was called with the cursors %q and %q, which have no key", q.label, after.Short(), to.Short())
	}
	r := keyRange{after: at.key, limit: limit}
	if to != "" {
		if r.to, _, err = decode(to, q.print, len(q.key)); err != nil || r.to == nil {
			return nil, err // nothing is before the first row
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []source.Cursor
	err = s.withPlan(ctx, func(db ceiling.Queryer) error {
		all, s.unproven = all[:0], true
		var failed error
		err := q.eachKey(ctx, db, s.plan, r, func(key []dialect.Value) {
			c, err := encode(q.print, origin{}, key)
			failed = cmp.Or(failed, err)
			all = append(all, c)
		})
		return cmp.Or(err, failed)
	})
	return all, err
}

// keyValue returns the value for an argument of At.
func keyValue(x any) (dialect.Value, error) {
	switch x := x.(type) {
	case nil:
		return dialect.Value{}, errors.New("is nil; a key is never NULL")
	case []byte:
		return dialect.Value{Tag: dialect.Bytes, Text: hex.EncodeToString(x)}, nil
	case time.Time:
		if x.Year() < 1 || x.Year() > 9999 {
			return dialect.Value{}, errors.New("is a time that RFC 3339 cannot write; give it as the database does, in a string")
		}
		return dialect.Value{Tag: dialect.Time, Text: x.Format(time.RFC3339Nano)}, nil
	}
	v, err := number(x)
	if s, ok := x.(fmt.Stringer); ok && err != nil { // uuid.UUID, *big.Int, decimal types
		return dialect.Value{Tag: dialect.Given, Text: s.String()}, nil
	}
	return v, err
}

func number(x any) (dialect.Value, error) {
	switch v := reflect.ValueOf(x); v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return dialect.Value{Tag: dialect.Int, Text: strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return dialect.Value{Tag: dialect.Int, Text: strconv.FormatUint(v.Uint(), 10)}, nil
	case reflect.Float32, reflect.Float64:
		return dialect.Value{Tag: dialect.Float, Text: strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())}, nil
	case reflect.String:
		return dialect.Value{Tag: dialect.Given, Text: v.String()}, nil
	}
	return dialect.Value{}, fmt.Errorf("is a %T; use an integer, a string, []byte or time.Time", x)
}

// keys has the keys of the row being read and of the row before it. Each value is a buffer
// that is used again: the tag and then the text, or nothing for NULL and without a row before.
type keys struct {
	names     []string
	now, last [][]byte
	rising    bool // the rows were asked for after a key
}

func newKeys(columns []dialect.KeyColumn, after []dialect.Value) *keys {
	k := &keys{now: make([][]byte, len(columns)), last: make([][]byte, len(columns)), rising: after != nil}
	for _, c := range columns {
		k.names = append(k.names, c.Name)
	}
	if after != nil {
		k.set(after)
		k.keep()
	}
	return k
}

// set makes a key that of the row just scanned.
func (k *keys) set(key []dialect.Value) {
	for i, v := range key {
		k.now[i] = append([]byte{v.Tag}, v.Text...)
	}
}

// keep makes the row just scanned the last one.
func (k *keys) keep() { k.now, k.last = k.last, k.now }

// check returns an error if the row just scanned has no key, or one that is not after that of the
// row before it. Of keys that differ, only integers have an order that is known here.
func (k *keys) check() error {
	same := true
	for i, v := range k.now {
		if len(v) == 0 {
			return nullKey(k.names[i])
		}
		if same && k.rising && smaller(v, k.last[i]) {
			return permanent("the row with the key %s was returned after %s, and would be read again and again: check Where and Select, which may change the rest of the statement", describeKey(k.names, values(k.now)), describeKey(k.names, values(k.last)))
		}
		same = same && bytes.Equal(v, k.last[i])
	}
	if same {
		return permanent("two rows have the key %s: rows would be lost between batches; choose a key that is unique", describeKey(k.names, values(k.now)))
	}
	return nil
}

// smaller reports whether v and than are integers and v is the smaller one.
func smaller(v, than []byte) bool {
	if len(than) == 0 || v[0] != dialect.Int || than[0] != dialect.Int {
		return false
	}
	if negative := v[1] == '-'; negative != (than[1] == '-') {
		return negative
	} else if negative {
		v, than = than, v
	}
	return cmp.Or(cmp.Compare(len(v), len(than)), bytes.Compare(v, than)) < 0
}

func nullKey(column string) error {
	return permanent("the key column %q is NULL in a row, which no cursor can pass; declare it NOT NULL, or exclude such rows by a condition", column)
}

func values(key [][]byte) []dialect.Value {
	all := make([]dialect.Value, len(key))
	for i, v := range key {
		if len(v) > 0 {
			all[i] = dialect.Value{Tag: v[0], Text: string(v[1:])}
		}
	}
	return all
}

// describeKey writes a key for messages: id = 42, name = "x".
func describeKey(names []string, key []dialect.Value) string {
	parts := make([]string, len(key))
	for i, v := range key {
		parts[i] = fmt.Sprintf("%s = %s", names[i], v)
	}
	return strings.Join(parts, ", ")
}

// positionText writes the key of a cursor for people: created_at 2026-01-31, id 7.
// A cursor that holds none, such as Latest, has no text.
func positionText(names []string, c source.Cursor) string {
	key, _, err := decode(c, "", len(names))
	if err != nil {
		return ""
	}
	parts := make([]string, len(key))
	for i, v := range key {
		text := v.String()
		if v.Text != "" && text == `"`+v.Text+`"` && !strings.Contains(text, ",") {
			text = v.Text // it needs no quotes
		}
		parts[i] = names[i] + " " + text
	}
	return strings.Join(parts, ", ")
}

// scanner returns where database/sql puts the i-th value of the key, and then column, if a
// column of the row has the same value.
func (k *keys) scanner(i int, kind row.Kind, column sql.Scanner) scanner {
	return func(src any) (err error) {
		if k.now[i], err = appendKey(k.now[i][:0], kind, src); err == nil && column != nil {
			err = column.Scan(src)
		}
		return err
	}
}

// appendKey appends the tag and the text of a value. NULL has neither.
func appendKey(dst []byte, kind row.Kind, src any) ([]byte, error) {
	switch v := src.(type) {
	case nil:
		return dst, nil
	case int64:
		return strconv.AppendInt(append(dst, dialect.Int), v, 10), nil
	case string:
		return append(append(dst, dialect.Text), v...), nil
	case []byte:
		if kind == row.Bytes || kind == row.Auto {
			return hex.AppendEncode(append(dst, dialect.Bytes), v), nil
		}
		return append(append(dst, dialect.Text), v...), nil
	case time.Time:
		return row.AppendTime(append(dst, dialect.Text), kind, v), nil
	case float64:
		bits := 64
		if kind == row.Float32 {
			bits = 32
		}
		return strconv.AppendFloat(append(dst, dialect.Float), v, 'g', -1, bits), nil
	case bool:
		return strconv.AppendBool(append(dst, dialect.Text), v), nil
	}
	v, err := number(src) // drivers may go beyond driver.Value
	return append(append(dst, v.Tag), v.Text...), err
}
