// Package sqlite is what package sqlsource must know about SQLite.
package sqlite

import (
	"context"
	"fmt"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// name is the database's name, for messages.
const name = "SQLite"

// Dialect is the SQL of SQLite.
type Dialect struct{}

// Short answers, each explained in package ceiling.

func (Dialect) Name() string       { return name }
func (Dialect) Limit(n int) string { return fmt.Sprintf("LIMIT %d", n) }
func (Dialect) Integer() string    { return "?" }

// KeyTypes implements [ceiling.SQL]. No type of SQLite tells what a column holds.
func (Dialect) KeyTypes(_ context.Context, _ ceiling.Queryer, t ceiling.Table) ([]string, error) {
	return make([]string, len(t.Key)), nil
}

// Older implements [ceiling.SQL]. Times in SQLite are texts and numbers of any form, which
// no clock is compared with.
func (Dialect) Older(string, string) string { return "" }

// KeyValue implements [ceiling.SQL]. It reads an expression, because drivers change values
// by the declared type of a column.
func (Dialect) KeyValue(string) ceiling.KeyValue {
	return ceiling.KeyValue{Select: "+%s", Argument: "?"}
}

// Ceilings returns the ceilings of SQLite.
func (Dialect) Ceilings() []ceiling.Ceiling { return []ceiling.Ceiling{SingleWriter{}} }

// Choose returns the ceiling that fits a table. Its Open may still refuse the table.
func (Dialect) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return SingleWriter{proven: true}, nil
}
