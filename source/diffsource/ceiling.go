package diffsource

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// whole is a ceiling that allows every row. It is not lossy, because a row that commits where a pass has
// already read is found by the next pass.
type whole struct{}

func (whole) String() string { return guarantee.Name }

func (whole) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return whole{}, nil
}

func (w whole) Report() ceiling.Report {
	return ceiling.Report{Strategy: w.String(), Guarantee: guarantee.Text}
}

func (whole) Advance(context.Context, ceiling.Queryer, []string) (ceiling.Limit, error) {
	return ceiling.Limit{Unflushed: true}, nil // a row that a crash takes back is gone in the next pass
}

// all returns a table with the settings of t that reads all rows.
func all(t *sqlsource.Table) *sqlsource.Table {
	return &sqlsource.Table{DB: t.DB, Name: t.Name, Key: t.Key, Columns: t.Columns, Where: t.Where, Select: t.Select,
		MaxBytes: t.MaxBytes, MaxRowBytes: t.MaxRowBytes, Dialect: t.Dialect, Logger: t.Logger, Ceiling: whole{}}
}
