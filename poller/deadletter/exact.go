package deadletter

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
)

// isExact reports whether decoding the JSON of a record makes an equal record.
func isExact[T any](record T, text []byte) bool {
	var decoded T
	if json.Unmarshal(text, &decoded) != nil {
		return false
	}
	return same(reflect.ValueOf(&record).Elem(), reflect.ValueOf(&decoded).Elem())
}

// same reports whether two values of one type are equal. An empty slice or map is the
// same as nil. Values of types that write their own JSON are the same if it is equal.
func same(a, b reflect.Value) bool {
	if a.CanInterface() && writesItself(a.Type()) {
		return sameText(a, b)
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		if a, b = a.Elem(), b.Elem(); a.Type() != b.Type() { // as int64 and float64 in any
			return a.CanInterface() && (a.CanInt() || a.CanUint() || a.CanFloat()) && sameText(a, b)
		}
		return same(a, b)
	case reflect.Slice, reflect.Array:
		for i := range min(a.Len(), b.Len()) {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return a.Len() == b.Len()
	case reflect.Map:
		for entries := a.MapRange(); entries.Next(); {
			value := b.MapIndex(entries.Key())
			if !value.IsValid() || !same(entries.Value(), value) {
				return false
			}
		}
		return a.Len() == b.Len()
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return a.IsZero() && b.IsZero()
	}
	return a.Equal(b)
}

// sameText reports whether the JSON of two values is equal.
func sameText(a, b reflect.Value) bool {
	x, err := json.Marshal(a.Interface())
	if err != nil {
		return false
	}
	y, err := json.Marshal(b.Interface())
	return err == nil && bytes.Equal(x, y)
}

// writesItself reports whether encoding/json uses methods of a type for its values.
func writesItself(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}
