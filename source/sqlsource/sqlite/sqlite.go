// Package sqlite is what package sqlsource must know about SQLite.
package sqlite

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Ceilings returns the ceilings of SQLite.
func Ceilings() []ceiling.Ceiling { return []ceiling.Ceiling{SingleWriter{}} }

// Choose returns the ceiling that fits a table. Its Open may still refuse the table.
func Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return SingleWriter{proven: true}, nil
}
