package sqlcheckpoint

import (
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// quote returns TABLE or SCHEMA.TABLE as a quoted identifier.
func quote(d dialect.Dialect, table string) (string, error) {
	parts := strings.Split(table, ".")
	if len(parts) > 2 {
		return "", fmt.Errorf("Options.Table is %q: write TABLE or SCHEMA.TABLE", table)
	}
	for _, p := range parts {
		if p == "" || len(p) > 63 || !printable(p) { // Postgres silently truncates longer names
			return "", fmt.Errorf("Options.Table is %q: use printable ASCII; each part must have 1 to 63 bytes", table)
		}
	}
	return dialect.QuoteAll(d, parts), nil
}

// checkName refuses names that a database might compare as equal to another.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty: name the pipeline")
	case len(name) > 200:
		return fmt.Errorf("the name %.20q… has %d bytes, more than 200", name, len(name))
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the name %q begins or ends with a blank, which databases ignore when they compare", name)
	case !printable(name):
		return fmt.Errorf("the name %q is not printable ASCII", name)
	}
	return nil
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// statements is all the SQL for one dialect and table.
type statements struct {
	create, probe, load, insert, update string
	lock                                string // before load, in a transaction
	loadLocked                          string
}

// Cursors are compared in Go and never by the database, whose collation might
// make two different cursors equal. Names are compared by the database: hence "C"
// and ascii_bin. SQLite compares bytes by default.
//
// The table has no version. Its columns and the lines of history change only by
// the rules of poller/integration/testdata/compat/README.md: after a rollback the
// older release must be able to read the row and to insert one.
func statementsFor(d dialect.Dialect, table string) statements {
	// fill numbers the question marks after the table's name, which may contain one
	// itself.
	fill := func(before, after string) string {
		parts := strings.Split(after, "?")
		text := before + table + parts[0]
		for n, part := range parts[1:] {
			text += d.Placeholder(n+1) + part
		}
		return text
	}
	const columns = "name, cur, writer, seq, saved_at, history"
	short := d.TextType(64, false)
	s := statements{
		create: d.CreateTable(table, "\n"+
			"  name     "+d.TextType(200, true)+" NOT NULL PRIMARY KEY,\n"+
			"  cur      "+d.TextType(8192, true)+" NOT NULL,\n"+
			"  writer   "+short+" NOT NULL,\n"+
			"  seq      BIGINT NOT NULL,\n"+
			"  saved_at "+short+" NOT NULL,\n"+
			"  history  "+d.TextType(0, false)+" NOT NULL\n"),
		probe:  fill("SELECT "+columns+" FROM ", " WHERE 1 = 0"),
		load:   fill("SELECT "+columns+" FROM ", " WHERE name = ?"),
		insert: fill("INSERT INTO ", " ("+columns+") VALUES (?, ?, ?, ?, ?, ?)"),
		update: fill("UPDATE ", " SET cur = ?, writer = ?, seq = ?, saved_at = ?, history = ? WHERE name = ? AND writer = ? AND seq = ?"),
	}
	s.loadLocked = s.load
	if lock := d.LockRows(); lock != "" {
		s.loadLocked += " " + lock
	} else {
		s.lock = fill("UPDATE ", " SET seq = seq WHERE name = ?")
	}
	return s
}
