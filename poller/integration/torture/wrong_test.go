package torture

import (
	"context"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Ceilings that look right and are wrong lose rows.
func TestWrongCeilings(t *testing.T) {
	t.Parallel()
	server := startPostgres(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	db.MustExec(orders + slow)
	restricted := selectOnly(t, d, db, `grant select on orders to reader`)
	_, results := trial(t, "Postgres, wrong ceilings", hostile.Trial{
		Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: *seedFlag, Acts: soundActs(t, db), Rollbacks: 0.1, Prepared: 0.1},
		Readers: []hostile.Reader{naive(restricted, "id"), reader("xmin filter", restricted, xminFilter{}, "id"), reader("grace of 200 ms", restricted, ceiling.Grace{For: 200 * time.Millisecond}, "id")},
	})
	for _, r := range results {
		requireLoss(t, r)
	}
}

// xminFilter reads only rows of transactions below the oldest one in progress. It is wrong,
// because the cursor may pass a key that such a transaction has drawn.
type xminFilter struct{}

func (xminFilter) String() string { return "xmin filter" }

func (xminFilter) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return xminFilter{}, nil
}

func (xminFilter) Report() ceiling.Report {
	return ceiling.Report{Strategy: "xmin filter", Lossy: true}
}

func (xminFilter) Advance(context.Context, ceiling.Queryer, []string) (ceiling.Limit, error) {
	return ceiling.Limit{Where: "t.xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"}, nil
}
