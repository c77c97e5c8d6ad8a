// Package dberr reads the errors of database drivers without importing a
// driver. It uses their methods and the names of their types and fields. It
// knows pgx, lib/pq, go-sql-driver/mysql and the SQLite drivers of modernc,
// ncruces and mattn.
//
//	switch dberr.MySQLNumber(err) {
//	case 1146: // no such table
//	}
//	switch dberr.SQLState(err) {
//	case "42501": // insufficient privilege
//	}
package dberr

import (
	"errors"
	"net/url"
	"reflect"
	"strings"
)

// Kind says whether a retry may help. Its values are those of retry.Class.
type Kind uint8

// The kinds, see package retry.
const (
	Other Kind = iota
	Setup
	Data
)

// Read returns the kind of err, and a text for it that holds no row values and
// no data source name. It returns false if err itself is not a driver's error,
// even if it wraps one. It must not be a nil pointer.
func Read(err error) (string, Kind, bool) {
	v := reflect.Indirect(reflect.ValueOf(err))
	t := v.Type()
	if u, ok := err.(*url.Error); ok && u.Op == "parse" || t.Name() == "ParseConfigError" { // ParseConfigError: pgx's
		return "the URL or data source name cannot be parsed (not shown, because it may contain a password)", Setup, true
	}
	if number, state, ok := mysqlCode(v); ok {
		said, kind := mysql(number, state, text(v, "Message"))
		return said, kind, true
	}
	if strings.Contains(t.PkgPath(), "sqlite") {
		if code, ok := sqliteCode(err, v); ok {
			said, kind := sqlite(code, err.Error())
			if cause := errors.Unwrap(err); cause != nil { // ncruces: the operating system's error
				said += ": " + cause.Error()
			}
			return said, kind, true
		}
	}
	if e, ok := err.(interface{ SQLState() string }); ok {
		said, kind := postgres(e.SQLState(), v)
		return said, kind, true
	}
	return "", Other, false
}

// classes holds what the first two characters of a SQLSTATE say: the kind, and
// whether messages of that class are safe, because they name objects and conditions
// only. Those of most other classes hold values.
var classes = map[string]struct {
	kind Kind
	safe bool
}{
	"08": {Other, true}, "25": {Other, true}, "40": {Other, true}, "53": {Other, true},
	"55": {Other, true}, "57": {Other, true}, "58": {Other, true}, "70": {Other, true},
	"0A": {Setup, true}, "28": {Setup, true}, "3D": {Setup, true}, "3F": {Setup, true}, "42": {Setup, true},
	"21": {Data, false}, "22": {Data, false}, "23": {Data, false}, "44": {Data, false},
}

// kinds holds the SQLSTATEs whose kind differs from that of their class.
var kinds = map[string]Kind{
	"54000": Data,                                  // row or index entry too large
	"55000": Setup,                                 // such as a database that allows no connections
	"54001": Setup, "54011": Setup, "54023": Setup, // statement too complex, too many columns or arguments
	"21S01": Setup, // MySQL: the number of columns differs
}

func byState(state string) Kind {
	if k, ok := kinds[state]; ok {
		return k
	}
	return classes[prefix(state)].kind
}

func prefix(state string) string { return state[:min(2, len(state))] }

// summaries replace messages that may hold values.
var summaries = map[string]string{
	"21000": "cardinality violation", "21S01": "the number of columns differs",
	"22001": "value too long", "22003": "number out of range", "22007": "invalid date or time", "22008": "date or time out of range",
	"22012": "division by zero", "22021": "invalid byte sequence", "22P02": "invalid text for its type",
	"23000": "integrity constraint violated", "23502": "null value not allowed", "23503": "foreign key constraint violated",
	"23505": "duplicate key", "23514": "check constraint violated", "23P01": "exclusion constraint violated",
	"40001": "serialization failure", "40P01": "deadlock", "45000": "raised by code in the database",
	"54000": "row or index entry too large", "55P03": "lock not available", "P0001": "raised by code in the database",
}

// field returns a field of the struct v, or the zero Value if it has none or is
// not a struct.
func field(v reflect.Value, name string) reflect.Value {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// text returns the first of the named string fields that is not empty.
func text(v reflect.Value, names ...string) string {
	for _, name := range names {
		if f := field(v, name); f.Kind() == reflect.String && f.String() != "" {
			return f.String()
		}
	}
	return ""
}

// compose writes "code: message (name, name)".
func compose(code, message string, names ...string) string {
	if message != "" {
		code += ": " + message
	}
	if len(names) > 0 {
		code += " (" + strings.Join(names, ", ") + ")"
	}
	return code
}
