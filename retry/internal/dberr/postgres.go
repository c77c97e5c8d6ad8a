package dberr

import (
	"reflect"
	"regexp"
)

// postgres reads an error of pgx or lib/pq. The names of their fields differ.
func postgres(state string, v reflect.Value) (string, Kind) {
	shown := texts[state]
	switch message := text(v, "Message"); {
	case state == "42601":
		shown = syntax(message)
	case isSafe(state) && text(v, "Where") == "": // with Where set, code in the database may have raised it with any text
		shown = message
	}
	var names []string
	for _, n := range [][3]string{
		{"constraint ", "ConstraintName", "Constraint"}, {"schema ", "SchemaName", "Schema"},
		{"table ", "TableName", "Table"}, {"column ", "ColumnName", "Column"},
	} {
		if name := text(v, n[1], n[2]); name != "" {
			names = append(names, n[0]+name)
		}
	}
	return compose("SQLSTATE "+state, shown, names...), byState(state)
}

// near matches the unquoted word at which a syntax error occurred. A quoted token
// may be a value that the driver inserted into the statement.
var near = regexp.MustCompile(`near ["']([A-Za-z_]\w*)`)

func syntax(message string) string {
	if m := near.FindStringSubmatch(message); m != nil {
		return "syntax error near " + m[1]
	}
	return "syntax error"
}
