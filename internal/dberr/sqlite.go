package dberr

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// primary holds the names of the primary result codes, by number
// (https://sqlite.org/rescode.html).
var primary = strings.Fields("OK ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL " +
	"CANTOPEN PROTOCOL EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB")

var primaryKinds = map[string]Kind{
	"ERROR": Setup, "PERM": Setup, "READONLY": Setup, "CORRUPT": Setup, "CANTOPEN": Setup, "MISUSE": Setup,
	"NOLFS": Setup, "AUTH": Setup, "RANGE": Setup, "NOTADB": Setup,
	"CONSTRAINT": Data, "TOOBIG": Data, "MISMATCH": Data,
}

// objects finds the part of a message that holds names but no values.
var objects = regexp.MustCompile(`(?:UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed(?:: [\w.]+(?:, [\w.]+)*)?` +
	`|no such \w+: [\w.]+|ambiguous column name: [\w.]+|table \w+ has no column named \w+|near "[A-Za-z_]\w*": syntax error`)

const trigger = 19 | 7<<8 // SQLITE_CONSTRAINT_TRIGGER: RAISE, with any text

// sqlite takes a primary or an extended code. The lowest byte is the primary code.
func sqlite(code int, message string) (string, Kind) {
	name, said := "unknown", ""
	if p := code & 0xff; p < len(primary) {
		name = primary[p]
	}
	if code != trigger {
		said = objects.FindString(message)
	}
	return compose(fmt.Sprintf("SQLite error %d (%s)", code, name), said), primaryKinds[name]
}

func sqliteCode(err error, v reflect.Value) (int, bool) {
	if e, ok := err.(interface{ Code() int }); ok { // modernc
		return e.Code(), true
	}
	if m := reflect.ValueOf(err).MethodByName("ExtendedCode"); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
		v = m.Call(nil)[0] // ncruces
	} else if v.Kind() == reflect.Struct {
		v = field(v, "ExtendedCode") // mattn
	} // else v is a bare code, which ncruces uses as an error too
	switch {
	case v.CanInt():
		return int(v.Int()), true
	case v.CanUint():
		return int(v.Uint()), true
	}
	return 0, false
}
