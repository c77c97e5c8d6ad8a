package torture

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
)

// A server without synchronous commit loses what it confirmed last when it
// crashes. What was delivered is never among that. Between the crashes it is
// restarted in order; each time with transactions that are prepared.
func TestPostgresCrashes(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, "-c", "fsync=on", "-c", "full_page_writes=on", "-c", "synchronous_commit=off")
	d := server.NewDatabase(t)
	db := open(t, d)
	db.MustExec(orders + withTx)
	pending, rng := 0, rand.New(rand.NewPCG(*seedFlag, 1))
	crash := func(context.Context) error {
		end := server.Kill
		if rng.IntN(3) == 0 {
			end = server.Stop
		}
		if err := end(); err != nil {
			return err
		}
		if err := server.Start(); err != nil {
			return err
		}
		var n int
		err := db.Get(&n, `select count(*) from pg_prepared_xacts`)
		for try := 0; err != nil && try < 100; try++ { // connections of before
			err = db.Get(&n, `select count(*) from pg_prepared_xacts`)
		}
		pending += n
		return err
	}
	ledger, results := trial(t, "Postgres, asynchronous commit, crashes", hostile.Trial{
		Writers:   hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: *seedFlag, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1, Outages: true},
		Readers:   both(poor(t, d, db, `grant select on orders to reader`)),
		Meanwhile: every(2*time.Second, crash),
	})
	require.Positive(t, ledger.Counts().TakenBack, "no crash took a row back, so this test tests nothing")
	require.Positive(t, pending, "no transaction was prepared when the server went down")
	loses(t, results["naive"])
	sound(t, ledger, results["lock fence"])
	sound(t, ledger, results["transaction id"])
}
