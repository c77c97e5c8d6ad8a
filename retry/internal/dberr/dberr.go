// Package dberr reads the errors of database drivers without importing a
// driver: it goes by their methods and by the names of their types and fields.
// It knows pgx, lib/pq, go-sql-driver/mysql and the SQLite drivers of modernc,
// ncruces and mattn.
package dberr

import (
	"errors"
	"net/url"
	"reflect"
	"strings"
)

// Kind is what an error's code says about trying again. Its values are those
// of retry.Class.
type Kind uint8

// The kinds. The doc of package retry tells what each is.
const (
	Other Kind = iota
	Setup
	Data
)

// Read returns what kind of error err is, and a text of it that holds no values
// of rows and no data source name. It returns false for an error that is not a
// driver's own, even if it wraps one. Err is no nil pointer.
func Read(err error) (text string, kind Kind, ok bool) {
	v := reflect.Indirect(reflect.ValueOf(err))
	t := v.Type()
	if u, ok := err.(*url.Error); ok && u.Op == "parse" || t.Name() == "ParseConfigError" { // the latter is pgx's
		return "the URL or data source name cannot be parsed (not shown, since it may hold a password)", Setup, true
	}
	if t.Name() == "MySQLError" {
		if number := field(v, "Number"); number.CanUint() {
			text, kind = mysql(number.Uint(), v)
			return text, kind, true
		}
	}
	if strings.Contains(t.PkgPath(), "sqlite") {
		if code, ok := sqliteCode(err, v); ok {
			text, kind = sqlite(code, err.Error())
			if cause := errors.Unwrap(err); cause != nil { // ncruces: the operating system's
				text += ": " + cause.Error()
			}
			return text, kind, true
		}
	}
	if e, ok := err.(interface{ SQLState() string }); ok {
		text, kind = postgres(e.SQLState(), v)
		return text, kind, true
	}
	return "", Other, false
}

// kinds is by SQLSTATE, the whole or its first two letters.
var kinds = map[string]Kind{
	"0A": Setup, "28": Setup, "3D": Setup, "3F": Setup, "42": Setup,
	"21": Data, "22": Data, "23": Data, "44": Data,
	"54000": Data,                                  // row or index entry too large
	"54001": Setup, "54011": Setup, "54023": Setup, // statement too complex, too many columns or arguments
	"21S01": Setup, // MySQL: the number of columns differs
}

func byState(state string) Kind {
	if k, ok := kinds[state]; ok {
		return k
	}
	return kinds[prefix(state)]
}

// speaks reports whether the messages of a state's class name objects and
// conditions only. Most others hold values.
func speaks(state string) bool {
	switch prefix(state) {
	case "08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "70":
		return true
	}
	return false
}

func prefix(state string) string { return state[:min(2, len(state))] }

// words stand for messages that are not shown.
var words = map[string]string{
	"21000": "one row where there are more", "21S01": "the number of columns differs",
	"22001": "value too long", "22003": "number out of range", "22007": "invalid date or time", "22008": "date or time out of range",
	"22012": "division by zero", "22021": "invalid byte sequence", "22P02": "invalid text for its type",
	"23000": "integrity constraint violated", "23502": "null where none is allowed", "23503": "foreign key violated",
	"23505": "duplicate key", "23514": "check violated", "23P01": "exclusion violated",
	"40001": "serialization failure", "40P01": "deadlock", "45000": "raised by the database's own code",
	"54000": "row or index entry too large", "55P03": "lock not available", "P0001": "raised by the database's own code",
}

// field returns the field of a struct, or the zero Value.
func field(v reflect.Value, name string) reflect.Value {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// text returns the first of the string fields named that is not empty.
func text(v reflect.Value, names ...string) string {
	for _, name := range names {
		if f := field(v, name); f.Kind() == reflect.String && f.String() != "" {
			return f.String()
		}
	}
	return ""
}

// compose writes "code: said (name, name)".
func compose(code, said string, names ...string) string {
	if said != "" {
		code += ": " + said
	}
	if len(names) > 0 {
		code += " (" + strings.Join(names, ", ") + ")"
	}
	return code
}
