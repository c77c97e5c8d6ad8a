// Package postgres is what package sqlsource must know about Postgres.
package postgres

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Ceilings returns the ceilings of Postgres.
func Ceilings() []ceiling.Ceiling {
	return []ceiling.Ceiling{LockFence{}, TransactionID{}, Stamp{}}
}

// Choose returns the ceiling that fits a table, by the type of the key's first column. Its
// Open may still refuse the table.
func Choose(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Ceiling, error) {
	if t.Name == "" { // which it refuses
		return LockFence{}, nil
	}
	types, err := Dialect{}.KeyTypes(ctx, db, t)
	switch {
	case err != nil:
		return nil, err
	case types[0] == "xid8":
		return TransactionID{}, nil
	}
	return LockFence{}, nil
}
