package ceiling

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// TransactionID guards a table of Postgres 13 or later whose key begins with a
// column of the type xid8 that holds the transaction which wrote the row: set by
// default for tables that are only added to, by a trigger where updates are to be
// read too. It works on standbys.
type TransactionID struct{}

func (TransactionID) String() string { return "transaction-id" }

// Open implements [Ceiling].
func (c TransactionID) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	p, r, err := openPostgres(ctx, db, t, c)
	if err != nil {
		return nil, err
	}
	p.common(&r, t)
	updates := p.stamped(&r, t, "xid8", `pg_current_xact_id\(\)`, "pg_current_xact_id()")
	if len(t.Key) == 1 {
		r.Add(Unsafe, "add the primary key to Key, behind "+t.Key[0].Name, "all rows of a transaction have the same %q", t.Key[0].Name)
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	what := "every row is read once it is committed"
	if updates {
		what = "every row is read once it is committed, and its latest version again after each change"
	}
	r.Guarantee = fmt.Sprintf("%s, in the order of the transactions in %q: rows are read up to the oldest transaction in progress in the cluster", what, t.Key[0].Name)
	g := &transactionID{table: t, report: r}
	g.top = fmt.Sprintf(`SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text, EXISTS (SELECT FROM %s WHERE %s >= pg_snapshot_xmin(s)), (SELECT max(%[2]s)::text FROM %[1]s)
		FROM pg_current_snapshot() AS s`, t.Name, t.Key[0].Quoted)
	return g, nil
}

// stamped looks whether a column holds what a default or trigger puts there, and
// reports whether it is set by updates, too.
func (p *pgTable) stamped(r *Report, t Table, typ, pattern, value string) (updates bool) {
	return false
}

type transactionID struct {
	table  Table
	report Report
	top    string
	fences fences[string]
}

func (g *transactionID) Report() Report { return g.report }

// Raise implements [Guard].
func (g *transactionID) Raise(ctx context.Context, db Queryer, after []string) (Limit, error) {
	at := time.Now()
	var xmin, xmax string
	var above bool
	var top sql.NullString
	if err := db.QueryRowContext(ctx, g.top).Scan(&xmin, &xmax, &above, &top); err != nil {
		return Limit{}, fmt.Errorf("reading the oldest transaction in progress: %w", err)
	}
	l := Limit{Where: g.table.Key[0].Ref + " < pg_snapshot_xmin(pg_current_snapshot())", AsOf: at}
	if above {
		l.Held = &source.Held{Since: at, By: []string{strings.Join(after, " ")}}
	}
	return l, nil
}
