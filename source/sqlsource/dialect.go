package sqlsource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Dialect is a database's kind of SQL. The empty one is found out by the driver.
type Dialect string

// The dialects.
const (
	Postgres Dialect = "postgres" // with the drivers pgx (its stdlib package) and lib/pq
	MySQL    Dialect = "mysql"    // and MariaDB, with go-sql-driver/mysql
	SQLite   Dialect = "sqlite"   // with the drivers of modernc and ncruces
)

// dialect is what differs from database to database.
type dialect interface {
	quote(name string) string
	// explicit says whether the columns of a table are listed by name and as
	// expressions, instead of by a star.
	explicit() bool
	// column says as what to read a column, and with which expression if not as
	// it stands.
	column(c column, ref string) (row.Kind, string)
	// key makes a key column of a column.
	key(ctx context.Context, db ceiling.Queryer, c column, ref string) (keyColumn, error)
	// after writes the condition for keys greater than those given.
	after(columns []keyColumn, key []value, args *args) (string, error)
	// upTo writes the condition for keys not greater than the one given.
	upTo(columns []keyColumn, key []value, args *args) (string, error)
	// utf8 says why text does not arrive whole and in UTF-8, or returns nil.
	utf8(ctx context.Context, db ceiling.Queryer) error
	// notNull says of a table's columns which are known to hold no NULL.
	notNull(ctx context.Context, db ceiling.Queryer, table []string) (map[string]bool, error)
	// schema returns a number that changes with the schema, 0 if the statement
	// itself shows that its columns changed.
	schema(ctx context.Context, db ceiling.Queryer, table []string) (int64, error)
	// history returns what identifies the database's history, at a moment after
	// the call began.
	history(ctx context.Context, db ceiling.Queryer, table []string) (history, error)
	// explain returns the plan of a statement that reads the rows behind a key,
	// or all, and what is bad about it, with no Text if nothing is.
	explain(ctx context.Context, db *sql.DB, statement string, args []any, behind bool) ([]string, ceiling.Finding, error)
	// changed reports whether the error may come of columns that changed.
	changed(err error) bool
}

// column is a column of a statement's result.
type column struct {
	name, typ string
	time      bool // the driver makes a time.Time of it
	notNull   bool // the driver says that it holds no NULL
}

// keyColumn is a column of the key.
type keyColumn struct {
	name string
	typ  string   // as in column
	ref  string   // the column, quoted
	expr string   // how it is selected, if not as it stands
	kind row.Kind // how it is read
	bind func(value) (expr string, arg any, err error)
	null bool // it may hold NULL
}

// args collects a statement's arguments.
type args struct {
	numbered bool
	list     []any
}

// add returns the placeholder of an argument, in the place of the %s of expr.
func (a *args) add(expr string, arg any) string {
	a.list = append(a.list, arg)
	mark := "?"
	if a.numbered {
		mark = fmt.Sprintf("$%d", len(a.list))
	}
	return strings.Replace(expr, "%s", mark, 1)
}

// fill writes a condition with a ? for each argument, and returns how many there
// are. A ? in quotes is part of a name, or a string.
func (a *args) fill(cond string, list []any) (string, int) {
	var b strings.Builder
	var quote rune
	marks := 0
	for _, c := range cond {
		switch {
		case quote == 0 && c == '?':
			if marks++; marks <= len(list) {
				b.WriteString(a.add("%s", list[marks-1]))
			}
			continue
		case c == quote: // a doubled one opens again at once
			quote = 0
		case quote == 0 && strings.ContainsRune("\"'`", c):
			quote = c
		}
		b.WriteRune(c)
	}
	return b.String(), marks
}

// findDialect returns the dialect of a database by its driver.
func findDialect(d Dialect, db *sqlx.DB) (Dialect, dialect, error) {
	if d == "" {
		d = guess(db)
	}
	switch d {
	case Postgres:
		return d, postgres{}, nil
	case MySQL:
		return d, mysql{}, nil
	case SQLite:
		return d, sqlite{}, nil
	case "":
		return d, nil, fmt.Errorf("Dialect is empty, and the driver %q (%T) does not tell it; set it to Postgres, MySQL or SQLite", db.DriverName(), db.Driver())
	}
	return d, nil, fmt.Errorf("Dialect is %q; want Postgres, MySQL or SQLite", string(d))
}

func guess(db *sqlx.DB) Dialect {
	switch db.DriverName() {
	case "pgx", "pgx/v5", "postgres", "pq":
		return Postgres
	case "mysql", "mariadb":
		return MySQL
	case "sqlite", "sqlite3":
		return SQLite
	}
	v := reflect.Indirect(reflect.ValueOf(db.Driver()))
	if !v.IsValid() {
		return ""
	}
	for part, d := range map[string]Dialect{"jackc/pgx": Postgres, "lib/pq": Postgres, "go-sql-driver/mysql": MySQL, "sqlite": SQLite} {
		if strings.Contains(v.Type().PkgPath(), part) {
			return d
		}
	}
	return ""
}

// compareRows compares rows: (a, b) > (1, 2).
func compareRows(columns []keyColumn, op string, key []value, args *args) (string, error) {
	var refs, marks []string
	for i, c := range columns {
		expr, arg, err := c.bind(key[i])
		if err != nil {
			return "", misfit(c, key[i], err)
		}
		refs = append(refs, c.ref)
		marks = append(marks, args.add(expr, arg))
	}
	if len(columns) == 1 {
		return refs[0] + op + marks[0], nil
	}
	return "(" + strings.Join(refs, ", ") + ")" + op + "(" + strings.Join(marks, ", ") + ")", nil
}

// readNotNull reads columns' names and whether they are NOT NULL.
func readNotNull(ctx context.Context, db ceiling.Queryer, statement string, args ...any) (map[string]bool, error) {
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var name string
		var notNull bool
		if err := rows.Scan(&name, &notNull); err != nil {
			return nil, err
		}
		all[name] = notNull
	}
	return all, errors.Join(rows.Err(), rows.Close())
}

func misfit(c keyColumn, v value, err error) error {
	return permanent("the cursor's value %s does not fit the key column %q: %w; rewind to a cursor that At returns", v, c.name, err)
}

// asText binds a key's text and leaves its type to the database.
func asText(v value) (string, any, error) {
	if v.tag == tagBytes {
		return "%s", nil, errors.New("it is binary, the column is not")
	}
	return "%s", v.text, nil
}
