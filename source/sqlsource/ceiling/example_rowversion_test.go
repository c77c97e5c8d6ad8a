package ceiling_test

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// RowVersion guards a table of SQL Server whose key is its rowversion column,
// which each INSERT and UPDATE sets to a number that only grows. All below
// MIN_ACTIVE_ROWVERSION() is committed: it is the lowest number of a transaction
// in progress in the database.
//
// Package sqlsource has no dialect for SQL Server so far, and this was not run: it
// shows that a ceiling of another database takes no more than this.
type RowVersion struct{}

func (RowVersion) String() string { return "row-version" }

// Open checks the type of the key.
func (c RowVersion) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	r := ceiling.Report{Strategy: c.String()}
	var typ string
	err := db.QueryRowContext(ctx, `SELECT t.name FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id
		WHERE c.object_id = OBJECT_ID(@p1) AND c.name = @p2`, t.Name, t.Key[0].Name).Scan(&typ)
	if err != nil {
		return nil, fmt.Errorf("reading the type of the key: %w", err)
	}
	if typ != "timestamp" { // the old name, which the catalog keeps
		r.Add(ceiling.Unsafe, ceiling.Advice("add a rowversion column, then set Key to version", "ALTER TABLE "+t.Name+" ADD version rowversion;", "CREATE UNIQUE INDEX by_version ON "+t.Name+" (version);"),
			"the key begins with %q of the type %s, not rowversion", t.Key[0].Name, typ)
		return nil, r.Err(t)
	}
	r.Guarantee = "every row is read once it is committed, and its latest version again after each change, below the oldest transaction in progress"
	return rowVersion{
		report: r,
		look:   "SELECT CONVERT(bigint, MIN_ACTIVE_ROWVERSION()), COALESCE(CONVERT(bigint, (SELECT max(" + t.Key[0].Quoted + ") FROM " + t.Name + ")), 0)",
		where:  t.Key[0].Ref + " < CONVERT(binary(8), CONVERT(bigint, ?))",
	}, nil
}

type rowVersion struct {
	report      ceiling.Report
	look, where string
}

func (g rowVersion) Report() ceiling.Report { return g.report }

// Advance reads the limit in a separate statement. The statement that reads the rows begins
// later, so it sees every row that had been committed by then, whatever the isolation level. In
// one statement, the limit might be newer than the rows.
func (g rowVersion) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	at := time.Now()
	var active, top int64
	if err := db.QueryRowContext(ctx, g.look).Scan(&active, &top); err != nil {
		return ceiling.Limit{}, fmt.Errorf("reading the oldest row version in progress: %w", err)
	}
	l := ceiling.Limit{Where: g.where, Args: []any{active}, AsOf: at}
	if top >= active {
		l.AsOf = time.Time{}
		l.Held = &source.Held{Since: at, By: []string{"a transaction in progress; see sys.dm_tran_database_transactions"}}
	}
	return l, nil
}

// SQL Server's row version, as a strategy from outside of the package.
func ExampleCeiling_rowVersion() {
	var c ceiling.Ceiling = RowVersion{}
	fmt.Println(c)
	// Output: row-version
}
