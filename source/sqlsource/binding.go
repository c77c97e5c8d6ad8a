package sqlsource

import (
	"database/sql"
	"fmt"
	"reflect"
	"slices"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"
)

// binding scans rows into values of T. Its pointers are found once: those of one T, which is
// copied after each row.
type binding[T any] struct {
	into    *T
	fields  [][]int
	through bool // a field is reached through a pointer, which each row allocates
	dest    []any
	sizes   []func() int // of what the fields point to
	records []T
}

var (
	typeRawBytes = reflect.TypeFor[sql.RawBytes]()
	typeScanner  = reflect.TypeFor[sql.Scanner]()
)

func newBinding[T any](db *sqlx.DB, columns []string) (*binding[T], error) {
	b := &binding[T]{into: new(T)}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct || t == typeTime || reflect.PointerTo(t).Implements(typeScanner) {
		if t.Kind() == reflect.Map || t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
			return nil, fmt.Errorf("records of the type %v are not supported; use a struct, or a Table", t)
		}
		if len(columns) != 1 {
			return nil, fmt.Errorf("a %v takes one column, Select has %d: %q", t, len(columns), columns)
		}
		b.fields = [][]int{nil}
		return b, nil
	}
	b.fields = db.Mapper.TraversalsByName(t, columns)
	for i, f := range b.fields {
		if slices.Contains(columns[:i], columns[i]) {
			return nil, fmt.Errorf("Select has two columns called %q; give each a different name with AS", columns[i])
		}
		if len(f) == 0 {
			return nil, fmt.Errorf("%v has no field for the column %q; add one with the tag `db:%q`, or leave the column out of Select", t, columns[i], columns[i])
		}
		for at, n := t, 0; n < len(f); n++ {
			if at.Kind() == reflect.Pointer {
				at, b.through = at.Elem(), true
			}
			field := at.Field(f[n])
			at = field.Type
			if !field.IsExported() && (at.Kind() == reflect.Pointer || n == len(f)-1) {
				return nil, fmt.Errorf("the field %s of %v for the column %q is not exported and cannot be set", field.Name, t, columns[i])
			}
			if at == typeRawBytes {
				return nil, fmt.Errorf("the field of %v for the column %q is sql.RawBytes, the driver's own memory; use []byte", t, columns[i])
			}
		}
	}
	return b, nil
}

func (b *binding[T]) bind(dest []any) {
	b.dest = dest
	v := reflect.ValueOf(b.into).Elem()
	b.sizes = b.sizes[:0]
	for i, f := range b.fields {
		field := v
		if f != nil {
			field = reflectx.FieldByIndexes(v, f)
		}
		dest[i] = field.Addr().Interface()
		if size := sizeOf(field); size != nil {
			b.sizes = append(b.sizes, size)
		}
	}
}

// sizeOf returns a function for the size of what a field points to, nil for other fields.
func sizeOf(field reflect.Value) func() int {
	switch p := field.Addr().Interface().(type) {
	case *sql.NullString:
		return func() int { return len(p.String) }
	case **string:
		return func() int {
			if *p == nil {
				return 0
			}
			return len(**p)
		}
	}
	switch field.Kind() {
	case reflect.String:
		return field.Len
	case reflect.Slice:
		size := int(field.Type().Elem().Size())
		return func() int { return field.Len() * size }
	}
	return nil
}

func (b *binding[T]) add() int {
	size := int(reflect.TypeFor[T]().Size())
	for _, f := range b.sizes {
		size += f()
	}
	b.records = append(b.records, *b.into)
	*b.into = *new(T)
	if b.through {
		b.bind(b.dest)
	}
	return size
}

func (b *binding[T]) take(n int) []T { return b.records[:n:n] }
