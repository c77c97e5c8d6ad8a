package sqlite

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// TimeLayout implements [ceiling.SQL]. Times are texts and numbers of any form.
func (Dialect) TimeLayout(string) (layout string, utc bool) { return "", false }

// Transactions implements [ceiling.SQL]. Readers do not see who writes, and the clock is the machine's.
func (Dialect) Transactions(context.Context, ceiling.Queryer, ceiling.Table, *ceiling.Report) (ceiling.Transactions, error) {
	return ceiling.Unlisted("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000"), nil
}
