// Package mysql is what package sqlsource must know about MySQL and MariaDB.
package mysql

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Ceilings returns the ceilings of MySQL and MariaDB.
func Ceilings() []ceiling.Ceiling { return []ceiling.Ceiling{DirtyProbe{}} }

// Choose returns the ceiling that fits a table. Its Open may still refuse the table.
func Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return DirtyProbe{}, nil
}
