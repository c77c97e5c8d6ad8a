package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Query reads the result of a SELECT into values of T. T is a struct, whose fields
// are found as sqlx finds them (the db tag, or the name in lower case), or, for one
// column, a type that database/sql scans into. DB, Select and Key must be set. No
// field may be changed after the first Fetch, and a Query must not be copied.
//
// A Query makes no connection before the first Fetch. Its methods are safe for
// concurrent use, but fetches run one after the other.
type Query[T any] struct {
	DB *sqlx.DB

	// Select is a SELECT with any joins and conditions, without ORDER BY, LIMIT and
	// arguments. It goes into the statement unchanged: never build it from a user's
	// input. A row is missed if these become true for it only after later rows were read.
	// To know the size of a row, the database may evaluate an expression of Select that
	// returns text or bytes up to three times.
	Select string

	// Key are the columns of the result that order the rows and tell them apart:
	// together unique, never NULL, never changed, and first in an index of their
	// table, in this order. All of them are columns of one table.
	Key []string

	// Table is the table that has the key and that the Ceiling guards, in the form of
	// the field Name of a Table. It may be empty only with a Ceiling that needs no table.
	// Then looking for NULL in the key takes one more statement after the last row, and
	// one for each batch and further column of Key.
	Table string

	// The other fields mean what they mean in a [Table].

	Ceiling     ceiling.Ceiling // decides how far Table can be read; nil chooses the one that fits
	Start       source.Cursor   // where an empty cursor stands: "", Latest, or a cursor of At
	MaxBytes    int             // the size in memory at which a batch ends; 0 means DefaultMaxBytes
	MaxRowBytes int             // the size in memory of the largest row that is fetched; 0 means DefaultMaxRowBytes
	Dialect     dialect.Dialect // the database's SQL; nil finds it by the driver
	Logger      *slog.Logger    // nil means slog.Default()

	state state
}

// Fetch implements [source.Source]. An error wraps that of the driver. Errors that retrying
// cannot fix, such as a column for which T has no field, are marked with retry.Permanent. A row
// that does not fit into T, or is too large, is a [*source.BadRecord].
func (q *Query[T]) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	return fetch(ctx, &q.state, q.query, after, limit, q.open)
}

func (q *Query[T]) open(p *plan, _ int) (records[T], error) { return newBinding[T](q.DB, p.names) }

// At returns the cursor after the row with a key. See [Table.At].
func (q *Query[T]) At(key ...any) (source.Cursor, error) { return at(q.query, key) }

// Adopt returns a cursor that stands where c does. See [Table.Adopt].
func (q *Query[T]) Adopt(c source.Cursor) (source.Cursor, error) { return adopt(q.query, c) }

// Describe returns where a cursor stands, in words.
func (q *Query[T]) Describe(c source.Cursor) string { return describe(q.query, c) }

// Position returns the key of a cursor in words. See [Table.Position].
func (q *Query[T]) Position(c source.Cursor) string { return positionText(q.Key, c) }

// Keys returns the keys of the rows between two cursors. See [Table.Keys].
func (q *Query[T]) Keys(ctx context.Context, after, to source.Cursor, limit int) ([]source.Cursor, error) {
	return q.state.keysBetween(ctx, q.query, after, to, limit)
}

func (q *Query[T]) query() (*query, error) {
	text := strings.TrimRight(q.Select, "; \t\r\n")
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("Select is empty")
	}
	i := &query{db: q.DB, sql: q.Dialect, ceiling: q.Ceiling, label: "query", key: q.Key,
		from:  "(" + text + "\n) AS t", // its last line may end in a comment
		start: q.Start, maxBytes: q.MaxBytes, maxRowBytes: q.MaxRowBytes, log: q.Logger}
	if q.Table != "" {
		parts, err := dialect.SplitName(q.Table)
		if err != nil {
			return nil, fmt.Errorf("Table %q: %w", q.Table, err)
		}
		i.table, i.label = parts, "query of "+q.Table
	}
	i.print = fingerprint(append([]string{"query", text, q.Table}, q.Key...)...)
	i.identity = fingerprint(append([]string{"key", cmp.Or(q.Table, text)}, q.Key...)...)
	return i, cmp.Or(checkSQL("Select", text), i.complete())
}

// binding scans rows into values of T. Its pointers are found once: those of one T, which is
// copied after each row.
type binding[T any] struct {
	into    *T
	fields  [][]int
	through bool // a field is reached through a pointer, which each row allocates
	dest    []any
	sized   []reflect.Value // fields that point to something whose size counts
	records []T
}

// newBinding finds a field of T for each column.
func newBinding[T any](db *sqlx.DB, columns []string) (*binding[T], error) {
	b := &binding[T]{into: new(T)}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct || t == typeTime || reflect.PointerTo(t).Implements(reflect.TypeFor[sql.Scanner]()) {
		if t.Kind() == reflect.Map || t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
			return nil, permanent("query: records of the type %v are not supported; use a struct, or a Table", t)
		}
		if len(columns) != 1 {
			return nil, permanent("query: a %v takes one column, Select has %d: %q", t, len(columns), columns)
		}
		b.fields = [][]int{nil}
		return b, nil
	}
	b.fields = db.Mapper.TraversalsByName(t, columns)
	for i, f := range b.fields {
		if slices.Contains(columns[:i], columns[i]) {
			return nil, permanent("query: Select has two columns called %q; give each a different name with AS", columns[i])
		}
		if len(f) == 0 {
			return nil, permanent("query: %v has no field for the column %q; add one with the tag `db:%q`, or leave the column out of Select", t, columns[i], columns[i])
		}
		at := t
		for n, index := range f {
			if at.Kind() == reflect.Pointer {
				at, b.through = at.Elem(), true
			}
			field := at.Field(index)
			at = field.Type
			if !field.IsExported() && (at.Kind() == reflect.Pointer || n == len(f)-1) {
				return nil, permanent("query: the field %s of %v for the column %q is not exported and cannot be set", field.Name, t, columns[i])
			}
		}
		if at == reflect.TypeFor[sql.RawBytes]() {
			return nil, permanent("query: the field of %v for the column %q is sql.RawBytes, the driver's own memory; use []byte", t, columns[i])
		}
	}
	return b, nil
}

func (b *binding[T]) bind(dest []any) {
	b.dest, b.sized = dest, b.sized[:0]
	v := reflect.ValueOf(b.into).Elem()
	for i, f := range b.fields {
		field := reflectx.FieldByIndexes(v, f)
		dest[i] = field.Addr().Interface()
		if n, ok := dest[i].(*sql.NullString); ok {
			field = reflect.ValueOf(&n.String).Elem()
		}
		switch field.Kind() {
		case reflect.String, reflect.Slice, reflect.Pointer:
			b.sized = append(b.sized, field)
		}
	}
}

func (b *binding[T]) add() int {
	size := int(reflect.TypeFor[T]().Size())
	for _, field := range b.sized {
		switch field = reflect.Indirect(field); field.Kind() {
		case reflect.String:
			size += field.Len()
		case reflect.Slice:
			size += field.Len() * int(field.Type().Elem().Size())
		}
	}
	b.records = append(b.records, *b.into)
	*b.into = *new(T)
	if b.through {
		b.bind(b.dest)
	}
	return size
}

func (b *binding[T]) take(n int) []T { return b.records[:n:n] }
func (b *binding[T]) note([][]byte)  {}

// digest returns the number of a field. Text and bytes, which may be large, are not copied. A time has the same
// number in all zones. A value that may not be printed by its contents is not known.
func (b *binding[T]) digest(of T, i int) uint32 {
	field := reflect.ValueOf(of)
	if f := b.fields[i]; f != nil {
		field, _ = field.FieldByIndexErr(f)
	}
	field = reflect.Indirect(field)
	if field.IsValid() && field.Type().PkgPath() == "database/sql" {
		if n, ok := field.Interface().(driver.Valuer); ok { // such as sql.NullTime
			v, _ := n.Value()
			field = reflect.ValueOf(v)
		}
	}
	switch {
	case !field.IsValid():
		return null
	case field.Kind() == reflect.String:
		return digestText(field.String())
	case field.Type().ConvertibleTo(reflect.TypeFor[[]byte]()):
		return digestText(unsafe.String(unsafe.SliceData(field.Bytes()), field.Len()))
	case field.CanConvert(typeTime):
		return digestText(field.Convert(typeTime).Interface().(time.Time).UTC().String())
	}
	value := field.Interface()
	text := fmt.Sprint(value)
	if _, ok := value.(fmt.Stringer); !ok && unprinted.MatchString(text) {
		return unknown
	}
	return digestText(text)
}

// unprinted is how fmt prints a pointer in another value, and a time in another zone than UTC, which can be the
// session's. Other text of this form is not compared either.
var unprinted = regexp.MustCompile(`0x[0-9a-f]|:\d\d(\.\d+)? ([+-]\d*[1-9]|\+0000 [^U])`)
