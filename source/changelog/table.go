package changelog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Table is a table whose changes are recorded by triggers, and the source of these
// changes. DB and Name must be set. No field may be changed after the first call of a
// method, and a Table must not be copied.
//
// A Table makes no connection before the first call. Its methods are safe for concurrent
// use, but fetches run one after the other.
type Table struct {
	DB *sqlx.DB

	// Name is the table's name as the database spells it, with a schema in front if
	// needed, as in package sqlsource.
	Name string

	// Key are the columns that tell the rows apart: together unique and never NULL. nil
	// means the primary key.
	Key []string

	// Changes is the name of the change table, which is in the table's schema. If it is
	// empty, it is the table's name with _changes at its end, and a number after that if
	// another table has this name.
	Changes string

	// KeysOnly records the keys of changed rows only, which costs writers less. Fetch then
	// delivers the row as it is when it is read: as an Upsert, or as a Delete if it is gone.
	KeysOnly bool

	// Omit are columns that are not recorded and not delivered. A recorded column may be
	// named here before it is dropped, which SQLite requires, and afterwards.
	Omit []string

	// Load delivers all existing rows, as Upserts, before the first change. See Fetch.
	Load bool

	// MaxBytes is the size in memory at which a batch ends. 0 means
	// sqlsource.DefaultMaxBytes.
	MaxBytes int

	// MaxRowBytes is the size in memory of the largest change or row that is read. A larger
	// one is a *source.BadRecord. 0 means sqlsource.DefaultMaxRowBytes.
	MaxRowBytes int

	// Logger gets the lines of package sqlsource. nil means slog.Default().
	Logger *slog.Logger

	mu     sync.Mutex
	reader *reader // nil: the installation was not checked yet
}

var _ source.Source[row.Change] = (*Table)(nil)

// engine is what differs between databases.
type engine interface {
	// probe reads what the database says about the table, its change table and its
	// triggers.
	probe(ctx context.Context, db ceiling.Queryer, t *Table, parts []string) (*facts, error)

	// install returns the statements that start the recording, from any state, and
	// remove those that end it.
	install(f *facts) Script
	remove(f *facts) Script

	// complete reads what only install and remove need.
	complete(ctx context.Context, db ceiling.Queryer, f *facts) error

	// wrong returns the parts of the install script that are not installed.
	wrong(f *facts) []finding

	// grants returns the statements that let a role read, and one prune.
	grants(f *facts, reader, pruner string) Script
}

// use calls do with a connection and the database's facts about the table.
func (t *Table) use(ctx context.Context, do func(ceiling.Queryer, engine, *facts) error) error {
	d, e, parts, err := t.resolve()
	if err != nil {
		return err
	}
	err = t.withConn(ctx, d, func(db ceiling.Queryer) error {
		f, err := e.probe(ctx, db, t, parts)
		if err != nil {
			return err
		}
		f.sql = d
		if f.store.exists {
			err = db.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM "+dialect.QuoteAll(d, []string{f.schema, f.store.name})).Scan(&f.last)
		}
		if err != nil {
			return err
		}
		return do(db, e, f)
	})
	if err != nil && !strings.HasPrefix(err.Error(), "changelog: ") {
		err = fmt.Errorf("changelog: %s: %w", t.Name, err)
	}
	return err
}

// resolve finds the database by the pool's driver.
func (t *Table) resolve() (dialect.Dialect, engine, []string, error) {
	if t.DB == nil {
		return nil, nil, nil, permanent("DB is nil")
	}
	parts, err := splitName(t.Name)
	if err != nil {
		return nil, nil, nil, permanent("Name %q: %w", t.Name, err)
	}
	d, err := builtin.Find(t.DB)
	if err != nil {
		return nil, nil, nil, permanent("%s: %w", t.Name, err)
	}
	switch d.Name() {
	case "Postgres":
		return d, pgEngine{}, parts, nil
	case "MySQL or MariaDB":
		return d, myEngine{}, parts, nil
	case "SQLite":
		return d, liteEngine{}, parts, nil
	}
	return nil, nil, nil, permanent("%s: no triggers are known for %s", t.Name, d.Name())
}

// withConn calls f with a connection on which text arrives unchanged.
func (t *Table) withConn(ctx context.Context, d dialect.Dialect, f func(ceiling.Queryer) error) error {
	conn, err := t.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	session, err := d.Session(ctx, conn, true, nil)
	if err != nil {
		return err
	}
	db, restore, err := session(ctx, conn)
	if restore != nil {
		defer restore()
	}
	if err != nil {
		return err
	}
	return f(db)
}

// Script are complete SQL statements. Run them unchanged, in this order, on one
// connection, up to the first error. Running all of them a second time does no harm.
type Script []string

// String returns the script as a file for the database's client: the statements on separate lines. The
// clients of MariaDB and MySQL need another delimiter around a trigger.
func (s Script) String() string {
	lines := make([]string, len(s))
	for i, statement := range s {
		lines[i] = statement
		if !strings.Contains(statement, " FOR EACH ROW BEGIN ") {
			continue
		}
		end := "$$"
		for strings.Contains(statement, end) {
			end += "$"
		}
		lines[i] = "DELIMITER " + end + "\n" + strings.TrimSuffix(statement, ";") + end + "\nDELIMITER ;"
	}
	return strings.Join(lines, "\n")
}

// Run runs the statements on one connection, up to the first error. Then it rolls back
// the transaction that the script has begun, if any.
func (s Script) Run(ctx context.Context, db *sqlx.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("changelog: %w", err)
	}
	defer conn.Close()
	for i, statement := range s {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			err = fmt.Errorf("changelog: statement %d of the script: %w", i+1, err)
			return errors.Join(err, undo(ctx, conn, s))
		}
	}
	return nil
}

// undo ends the transaction of a script that failed.
func undo(ctx context.Context, conn *sql.Conn, s Script) error {
	end := "ROLLBACK"
	if !strings.HasPrefix(s[0], "BEGIN") {
		end = "UNLOCK TABLES"
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), myRestore); err != nil {
			return err
		}
	}
	_, err := conn.ExecContext(context.WithoutCancel(ctx), end)
	if err != nil && end == "ROLLBACK" { // the database has rolled back already
		err = nil
	}
	return err
}

// Script returns the statements that create the change table and the triggers, or bring
// existing ones up to date with the table's columns. They must be run by the owner of the
// table. Script reads the database and changes nothing.
func (t *Table) Script(ctx context.Context) (s Script, err error) {
	err = t.use(ctx, func(db ceiling.Queryer, e engine, f *facts) error {
		err := e.complete(ctx, db, f)
		s = e.install(f)
		return err
	})
	return s, err
}

// Remove returns the statements that drop the triggers and the change table.
func (t *Table) Remove(ctx context.Context) (s Script, err error) {
	err = t.use(ctx, func(db ceiling.Queryer, e engine, f *facts) error {
		err := e.complete(ctx, db, f)
		s = e.remove(f)
		return err
	})
	return s, err
}

// Grants returns the statements that let the role reader run Fetch and Check, and the role
// pruner run Prune. Either may be empty. A role of MySQL is 'name'@'host'. The script of
// SQLite is empty.
func (t *Table) Grants(ctx context.Context, reader, pruner string) (s Script, err error) {
	err = t.use(ctx, func(_ ceiling.Queryer, e engine, f *facts) error {
		s = e.grants(f, reader, pruner)
		return nil
	})
	return s, err
}

// InstallError says that some or all changes are not recorded, and how to fix
// that. It is permanent.
type InstallError struct {
	Table    string
	Findings []string // what is wrong
	Script   Script   // the statements that fix it
}

// Error names the table and what is wrong. It does not contain the script.
func (e *InstallError) Error() string {
	return fmt.Sprintf("changelog: %s: %s; run the statements that Script returns", e.Table, strings.Join(e.Findings, "; "))
}

// Check returns an [*InstallError] if the change table or a trigger is missing, disabled
// or made for other columns, and nil if everything is as Script makes it.
func (t *Table) Check(ctx context.Context) error {
	return t.use(ctx, func(db ceiling.Queryer, e engine, f *facts) error { return t.checked(ctx, db, e, f) })
}

func (t *Table) checked(ctx context.Context, db ceiling.Queryer, e engine, f *facts) error {
	var texts []string
	for _, w := range slices.Concat(f.wrongColumns(), e.wrong(f)) {
		texts = append(texts, w.text)
	}
	if len(texts) > 0 {
		if err := e.complete(ctx, db, f); err != nil {
			return err
		}
		return retry.Permanent(&InstallError{Table: f.label, Findings: texts, Script: e.install(f)})
	}
	return nil
}

// finding is a part of the install script that is not installed.
type finding struct {
	text string
	gap  bool // changes may have been missed, also if the part was there before
}

// started returns the condition under which the script records its start: the triggers are not there
// when it runs, or it is the first run since a gap was found. there and alias are SQL: whether the
// triggers are there, and the change table with another name.
func (f *facts) started(e engine, there, alias string) string {
	cond := "NOT (" + there + ")"
	if slices.ContainsFunc(slices.Concat(f.wrongColumns(), e.wrong(f)), func(w finding) bool { return w.gap }) {
		cond += fmt.Sprintf(" OR NOT EXISTS (SELECT 1 FROM %s AS past WHERE past.seq > %d AND past.op = '%s')", alias, f.last, opStart)
	}
	return cond
}

func permanent(format string, args ...any) error {
	return retry.Permanent(fmt.Errorf("changelog: "+format, args...))
}

// refuse is the error of a table whose changes cannot be recorded.
func refuse(f *facts, format string, args ...any) error {
	return permanent("%s: "+format, append([]any{f.label}, args...)...)
}
