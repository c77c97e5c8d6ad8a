package dberr

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// numbers overrides the kinds by SQLSTATE. MySQL reports many errors with HY000,
// and errors before the login without an SQLSTATE.
// (https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html,
// https://mariadb.com/kb/en/mariadb-error-code-reference/)
var numbers = map[uint64]Kind{
	1044: Setup, 1045: Setup, 1049: Setup, // no access, no such database
	1054: Setup, 1064: Setup, 1142: Setup, 1146: Setup, // column, syntax, privilege, table
	1130: Setup, 1251: Setup, 1524: Setup, 1820: Setup, 1862: Setup, // host, login method, password expired
	1193: Setup, 1267: Setup, 1364: Setup, // variable, collations, field without a default
	1062: Data, 1265: Data, 1366: Data, 1411: Data, 1525: Data, 3819: Data, // duplicate, values, check
	1118: Data, 1153: Data, // row or packet too large
	1203: Other, 1226: Other, 1461: Other, // limits, although their SQLSTATEs have class 42
}

// trailing matches the key or column at the end of a message. A value cannot match,
// because it is quoted and these messages end outside the quotes.
var trailing = regexp.MustCompile(`for (key '[^' ]+')$|for (column \S+) at row \d+$`)

func mysql(number uint64, v reflect.Value) (string, Kind) {
	var state string
	if f := field(v, "SQLState"); f.IsValid() {
		state = strings.Trim(fmt.Sprintf("%s", f), "\x00")
	}
	kind, ok := numbers[number]
	if !ok {
		kind = byState(state)
	}
	shown, message := texts[state], text(v, "Message")
	var names []string
	switch number {
	case 1064:
		shown = syntax(message)
	case 1062, 1292, 1366: // the value, and sometimes a name after it
		if number != 1062 {
			shown = "incorrect value"
		}
		if m := trailing.FindStringSubmatch(message); m != nil {
			names = append(names, m[1]+m[2])
		}
	case 1643, 1644: // SIGNAL can set any state and any text
	case 1021, 1040, 1048, 1114, 1129, 1130, 1205, 1264, 1290, 1364, 1406, 1451, 1452, 1836, 3819, 4025: // messages without values
		shown = message
	default:
		if isSafe(state) || number < 1000 { // numbers below 1000 are errors of files
			shown = message
		}
	}
	code := fmt.Sprintf("MySQL error %d", number)
	if state != "" {
		code += " (" + state + ")"
	}
	return compose(code, shown, names...), kind
}
