package dberr

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
)

// MySQLNumber returns the number of the first *mysql.MySQLError in err's tree,
// such as 1062, or 0 if the tree has no such error.
func MySQLNumber(err error) uint16 {
	for e := range All(err) {
		if n, _, ok := mysqlCode(reflect.Indirect(reflect.ValueOf(e))); ok {
			return n
		}
	}
	return 0
}

// SQLState returns the SQLSTATE of the first error in err's tree that has one,
// such as "42P01", or "" if none has. It reads errors of pgx, lib/pq and
// go-sql-driver/mysql.
func SQLState(err error) string {
	for e := range All(err) {
		if s, ok := e.(interface{ SQLState() string }); ok {
			return s.SQLState()
		}
		if _, state, ok := mysqlCode(reflect.Indirect(reflect.ValueOf(e))); ok && state != "" {
			return state
		}
	}
	return ""
}

// mysqlCode reads the number and the SQLSTATE of a mysql.MySQLError. The
// SQLSTATE is empty for errors that the server sends before the login.
func mysqlCode(v reflect.Value) (number uint16, state string, ok bool) {
	if v.Kind() != reflect.Struct || v.Type().Name() != "MySQLError" {
		return 0, "", false
	}
	n := v.FieldByName("Number")
	if n.Kind() != reflect.Uint16 {
		return 0, "", false
	}
	if s := v.FieldByName("SQLState"); s.Kind() == reflect.Array && s.Type().Elem().Kind() == reflect.Uint8 {
		state = strings.Trim(fmt.Sprintf("%s", s), "\x00")
	}
	return uint16(n.Uint()), state, true
}

// All returns err and every error it wraps, depth first, as [errors.As] visits
// them. It leaves out nil pointers, whose methods may panic.
func All(err error) iter.Seq[error] {
	return func(yield func(error) bool) { walk(err, yield) }
}

func walk(err error, yield func(error) bool) bool {
	if IsNil(err) {
		return true
	}
	if !yield(err) {
		return false
	}
	for _, e := range Unwrap(err) {
		if !walk(e, yield) {
			return false
		}
	}
	return true
}

// Unwrap returns the errors that err wraps directly, which may be nil.
func Unwrap(err error) []error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	return []error{errors.Unwrap(err)}
}

// IsNil reports whether err is nil or a nil pointer in an interface.
func IsNil(err error) bool {
	v := reflect.ValueOf(err)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
