package dberr

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// primary contains the names of the primary result codes, indexed by code
// (https://sqlite.org/rescode.html).
var primary = strings.Fields("OK ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL " +
	"CANTOPEN PROTOCOL EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB")

var primaryKinds = map[string]Kind{
	"ERROR": Setup, "PERM": Setup, "READONLY": Setup, "CORRUPT": Setup, "CANTOPEN": Setup, "MISUSE": Setup,
	"NOLFS": Setup, "AUTH": Setup, "RANGE": Setup, "NOTADB": Setup,
	"CONSTRAINT": Data, "TOOBIG": Data, "MISMATCH": Data,
}

// objects matches the part of a message that contains only names.
var objects = regexp.MustCompile(`(?:UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed(?:: [\w.]+(?:, [\w.]+)*)?` +
	`|no such \w+: [\w.]+|ambiguous column name: [\w.]+|table \w+ has no column named \w+|near "[A-Za-z_]\w*": syntax error`)

const trigger = 19 | 7<<8 // SQLITE_CONSTRAINT_TRIGGER: RAISE can set any text

// sqlite accepts a primary or an extended code, whose lowest byte is the primary
// code.
func sqlite(code int, message string) (string, Kind) {
	name, shown := "unknown", ""
	if p := code & 0xff; p < len(primary) {
		name = primary[p]
	}
	if code != trigger {
		shown = objects.FindString(message)
	}
	return compose(fmt.Sprintf("SQLite error %d (%s)", code, name), shown), primaryKinds[name]
}

func sqliteCode(err error, v reflect.Value) (int, bool) {
	if e, ok := err.(interface{ Code() int }); ok { // modernc
		return e.Code(), true
	}
	if m := reflect.ValueOf(err).MethodByName("ExtendedCode"); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
		v = m.Call(nil)[0] // ncruces
	} else if v.Kind() == reflect.Struct {
		v = field(v, "ExtendedCode") // mattn
	} // otherwise v is a code of ncruces that is itself an error
	switch {
	case v.CanInt():
		return int(v.Int()), true
	case v.CanUint():
		return int(v.Uint()), true
	}
	return 0, false
}
