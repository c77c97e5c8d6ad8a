package sqlcheckpoint

import (
	"errors"
	"fmt"
	"strings"
)

// Dialect is a kind of database.
type Dialect string

// The dialects.
const (
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql" // MariaDB too
	SQLite   Dialect = "sqlite"
)

// dialectOf returns the dialect of a database/sql driver name.
func dialectOf(driver string) (Dialect, error) {
	switch driver {
	case "pgx", "pgx/v4", "pgx/v5", "postgres", "pq":
		return Postgres, nil
	case "mysql":
		return MySQL, nil
	case "sqlite", "sqlite3":
		return SQLite, nil
	}
	return "", fmt.Errorf("the driver %q is unknown: set Options.Dialect to Postgres, MySQL or SQLite", driver)
}

// quote returns TABLE or SCHEMA.TABLE as a quoted identifier.
func (d Dialect) quote(table string) (string, error) {
	parts := strings.Split(table, ".")
	if len(parts) > 2 {
		return "", fmt.Errorf("Options.Table is %q: write TABLE or SCHEMA.TABLE", table)
	}
	q := `"`
	if d == MySQL {
		q = "`"
	}
	for i, p := range parts {
		if p == "" || len(p) > 63 { // Postgres silently truncates longer names
			return "", fmt.Errorf("Options.Table is %q: each part must have 1 to 63 bytes", table)
		}
		for _, c := range []byte(p) {
			if c < ' ' || c > '~' {
				return "", fmt.Errorf("Options.Table is %q: use printable ASCII", table)
			}
		}
		parts[i] = q + strings.ReplaceAll(p, q, q+q) + q
	}
	return strings.Join(parts, "."), nil
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
	}
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("the name %q is not printable ASCII", name)
		}
	}
	return nil
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
func (d Dialect) statements(table string) statements {
	text, long := "TEXT", "TEXT"
	name, cursor := text, text
	ends := ""
	switch d {
	case Postgres:
		name, cursor = `TEXT COLLATE "C"`, `TEXT COLLATE "C"`
	case MySQL:
		const ascii = " CHARACTER SET ascii COLLATE ascii_bin"
		name, cursor = "VARCHAR(200)"+ascii, "VARCHAR(8192)"+ascii
		text, long = "VARCHAR(64)"+ascii, "MEDIUMTEXT"+ascii
		ends = " ENGINE=InnoDB"
	}
	s := statements{
		create: "CREATE TABLE IF NOT EXISTS " + table + " (\n" +
			"  name     " + name + " NOT NULL PRIMARY KEY,\n" +
			"  cur      " + cursor + " NOT NULL,\n" +
			"  writer   " + text + " NOT NULL,\n" +
			"  seq      BIGINT NOT NULL,\n" +
			"  saved_at " + text + " NOT NULL,\n" +
			"  history  " + long + " NOT NULL\n)" + ends,
		probe:  "SELECT name, cur, writer, seq, saved_at, history FROM " + table + " WHERE 1 = 0",
		load:   "SELECT name, cur, writer, seq, saved_at, history FROM " + table + " WHERE name = ?",
		insert: "INSERT INTO " + table + " (name, cur, writer, seq, saved_at, history) VALUES (?, ?, ?, ?, ?, ?)",
		update: "UPDATE " + table + " SET cur = ?, writer = ?, seq = ?, saved_at = ?, history = ? WHERE name = ? AND writer = ? AND seq = ?",
	}
	s.loadLocked = s.load
	if d == SQLite { // a transaction that reads before it writes may be refused the write lock
		s.lock = "UPDATE " + table + " SET seq = seq WHERE name = ?"
	} else {
		s.loadLocked += " FOR UPDATE"
	}
	if d == Postgres {
		for _, p := range []*string{&s.load, &s.loadLocked, &s.insert, &s.update} {
			*p = dollars(*p, table)
		}
	}
	return s
}

// dollars numbers the placeholders: $1, $2. It leaves the table's name alone,
// which may contain a question mark.
func dollars(query, table string) string {
	before, after, _ := strings.Cut(query, table)
	for n := 1; strings.Contains(after, "?"); n++ {
		after = strings.Replace(after, "?", fmt.Sprintf("$%d", n), 1)
	}
	return before + table + after
}
