package dberr

import (
	"fmt"
	"regexp"
)

// numbers overrides the kind of the SQLSTATE, which says little where MySQL
// returns HY000 or, before the login, no SQLSTATE at all.
// (https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html,
// https://mariadb.com/kb/en/mariadb-error-code-reference/)
var numbers = map[uint16]Kind{
	1044: Setup, 1045: Setup, 1049: Setup, // no access, no such database
	1054: Setup, 1064: Setup, 1142: Setup, 1146: Setup, // column, syntax, privilege, table
	1130: Setup, 1251: Setup, 1524: Setup, 1820: Setup, 1862: Setup, // host, login method, password expired
	1193: Setup, 1267: Setup, 1364: Setup, // variable, collations, field without a default
	1062: Data, 1265: Data, 1366: Data, 1411: Data, 1525: Data, 3819: Data, // duplicate, values, check
	1118: Data, 1153: Data, // row or packet too large
	1203: Other, 1226: Other, 1461: Other, // limits, although their SQLSTATE is of class 42
}

// trailing finds the key or column at the end of a message. It cannot match a
// value, because these messages end outside the value's quotes.
var trailing = regexp.MustCompile(`for (key '[^' ]+')$|for (column \S+) at row \d+$`)

func mysql(number uint16, state, message string) (string, Kind) {
	kind, ok := numbers[number]
	if !ok {
		kind = byState(state)
	}
	said := summaries[state]
	var names []string
	switch number {
	case 1064:
		said = syntax(message)
	case 1062, 1292, 1366: // the value, perhaps followed by the name
		if number != 1062 {
			said = "incorrect value"
		}
		if m := trailing.FindStringSubmatch(message); m != nil {
			names = append(names, m[1]+m[2])
		}
	case 1643, 1644: // SIGNAL: any SQLSTATE with any text
	case 1021, 1040, 1048, 1114, 1129, 1130, 1205, 1264, 1290, 1364, 1406, 1451, 1452, 1836, 3819, 4025: // no values
		said = message
	default:
		if classes[prefix(state)].safe || number < 1000 { // below 1000: file errors
			said = message
		}
	}
	code := fmt.Sprintf("MySQL error %d", number)
	if state != "" {
		code += " (" + state + ")"
	}
	return compose(code, said, names...), kind
}
