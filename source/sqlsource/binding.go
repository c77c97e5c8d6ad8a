package sqlsource

import (
	"database/sql"
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
	sized   []reflect.Value // fields that point to something whose size counts
	records []T
}

var (
	typeRawBytes = reflect.TypeFor[sql.RawBytes]()
	typeScanner  = reflect.TypeFor[sql.Scanner]()
)

// newBinding finds a field of T for each column.
func newBinding[T any](db *sqlx.DB, columns []string) (*binding[T], error) {
	b := &binding[T]{into: new(T)}
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct || t == typeTime || reflect.PointerTo(t).Implements(typeScanner) {
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
		if at == typeRawBytes {
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

// sizeOf returns the size of what a field points to.
func sizeOf(field reflect.Value) int {
	if field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	switch field.Kind() {
	case reflect.String:
		return field.Len()
	case reflect.Slice:
		return field.Len() * int(field.Type().Elem().Size())
	}
	return 0
}

func (b *binding[T]) add() int {
	size := int(reflect.TypeFor[T]().Size())
	for _, field := range b.sized {
		size += sizeOf(field)
	}
	b.records = append(b.records, *b.into)
	*b.into = *new(T)
	if b.through {
		b.bind(b.dest)
	}
	return size
}

func (b *binding[T]) take(n int) []T { return b.records[:n:n] }
