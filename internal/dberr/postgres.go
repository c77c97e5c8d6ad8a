package dberr

import (
	"reflect"
	"regexp"
)

// postgres reads an error of pgx or lib/pq, whose field names differ.
func postgres(state string, v reflect.Value) (string, Kind) {
	said := summaries[state]
	switch message := text(v, "Message"); {
	case state == "42601":
		said = syntax(message)
	case classes[prefix(state)].safe && text(v, "Where") == "": // Where: a trigger or function may have raised it, with any text
		said = message
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
	return compose("SQLSTATE "+state, said, names...), byState(state)
}

// near finds the bare word at which the parser stopped. A quoted token is not
// shown: it may be a value that the driver wrote into the statement.
var near = regexp.MustCompile(`near ["']([A-Za-z_]\w*)`)

func syntax(message string) string {
	if m := near.FindStringSubmatch(message); m != nil {
		return "syntax error near " + m[1]
	}
	return "syntax error"
}
