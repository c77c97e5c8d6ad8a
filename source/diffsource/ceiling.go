package diffsource

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// whole is a ceiling that allows every row. It is not lossy, because a row that commits where a pass has
// already read is found by the next pass.
type whole struct {
	standby *bool // set if a standby was read; nil: nobody asks
	typed   *bool // set if the database is Postgres, where a boolean alone is a text of kind Auto; nil: nobody asks
}

func (whole) String() string { return guarantee.Name }

// Open asks for a standby only in Postgres. A replica of MySQL or MariaDB cannot be told from its primary.
func (w whole) Open(_ context.Context, _ ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	typed := t.SQL.Name() == "Postgres"
	if !typed {
		w.standby = nil
	}
	if w.typed != nil {
		*w.typed = typed
	}
	return w, nil
}

func (w whole) Report() ceiling.Report {
	return ceiling.Report{Strategy: w.String(), Guarantee: guarantee.Text}
}

func (w whole) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	if w.standby != nil {
		var standby bool
		if err := db.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
			return ceiling.Limit{}, err
		}
		*w.standby = *w.standby || standby
	}
	return ceiling.Limit{Unflushed: true}, nil // a row that a crash takes back is gone in the next pass
}

// all returns the source's table, as a pass reads it.
func (s *Source) all() *sqlsource.Table {
	t := all(s.Table)
	t.Ceiling = whole{standby: &s.replica, typed: &s.typed}
	return t
}

// all returns a table with the settings of t that reads all rows.
func all(t *sqlsource.Table) *sqlsource.Table {
	return &sqlsource.Table{DB: t.DB, Name: t.Name, Key: t.Key, Columns: t.Columns, Where: t.Where, Select: t.Select,
		MaxBytes: t.MaxBytes, MaxRowBytes: t.MaxRowBytes, Dialect: t.Dialect, Logger: t.Logger, Ceiling: whole{}}
}

// keysOf returns a table that reads the columns of the key alone. Any row can be read so.
func keysOf(t *sqlsource.Table) *sqlsource.Table {
	keys := all(t)
	keys.Columns, keys.Conn = t.Key, t.Conn
	return keys
}
