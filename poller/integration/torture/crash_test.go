package torture

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// crashes ends a server by a crash, or one time in three in order, each time when
// a transaction is prepared, and starts it again.
type crashes struct {
	server   *dbtest.Server
	db       *sqlx.DB
	prepared string // the query that lists prepared transactions
	rng      *rand.Rand
	ends     int
	pending  int // prepared transactions that were there after a start
}

// run does so four times, each time when the server has run for a while.
func (c *crashes) run(ctx context.Context) error {
	for range 4 {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(1500 * time.Millisecond):
		}
		if n := c.wait(ctx, func(n int, err error) bool { return n > 0 }); n == 0 {
			return nil // the writers have ended
		}
		end := c.server.Kill
		if c.rng.IntN(3) == 0 {
			end = c.server.Stop
		}
		if err := end(); err != nil {
			return err
		}
		if err := c.server.Start(); err != nil {
			return err
		}
		c.ends++
		c.pending += c.wait(ctx, func(_ int, err error) bool { return err == nil })
	}
	return nil
}

// wait counts the prepared transactions until ok is satisfied, or ctx ends.
func (c *crashes) wait(ctx context.Context, ok func(int, error) bool) int {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := c.count()
		if ok(n, err) {
			return n
		}
		select {
		case <-ctx.Done():
			return 0
		case <-tick.C:
		}
	}
}

func (c *crashes) count() (n int, err error) {
	rows, err := c.db.Query(c.prepared)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func (c *crashes) check(t *testing.T) {
	require.Positive(t, c.ends, "the server did not go down")
	require.Positive(t, c.pending, "no transaction was prepared when the server went down, so this test tests nothing")
}

// A server without synchronous commit loses what it confirmed last when it
// crashes. What was delivered is never among that.
func TestPostgresCrashes(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, "-c", "fsync=on", "-c", "full_page_writes=on", "-c", "synchronous_commit=off")
	d := server.NewDatabase(t)
	db := open(t, d)
	db.MustExec(orders + withTx)
	c := crashes{server: server, db: db, prepared: `select gid from pg_prepared_xacts`, rng: rand.New(rand.NewPCG(*seedFlag, 1))}
	ledger, results := trial(t, "Postgres, asynchronous commit, crashes", hostile.Trial{
		Writers:   hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: *seedFlag, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1, Outages: true},
		Readers:   both(poor(t, d, db, `grant select on orders to reader`)),
		Meanwhile: c.run,
	})
	c.check(t)
	require.Positive(t, ledger.Counts().TakenBack, "no crash took a row back, so this test tests nothing")
	loses(t, results["naive"])
	sound(t, ledger, results["lock fence"])
	sound(t, ledger, results["transaction id"])
}

// MariaDB keeps what it has confirmed, as it is set by default.
func TestMariaDBCrashes(t *testing.T) {
	t.Parallel()
	server := startMariaDB(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	db.MustExec(ordersMariaDB)
	low := poorMariaDB(t, d, db)
	c := crashes{server: server, db: db, prepared: `xa recover`, rng: rand.New(rand.NewPCG(*seedFlag, 1))}
	ledger, results := trial(t, "MariaDB, crashes", hostile.Trial{
		Writers:   hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: *seedFlag, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1, Outages: true},
		Readers:   []hostile.Reader{naive(low, "id"), reader("dirty probe", low, ceiling.DirtyProbe{}, "id")},
		Meanwhile: c.run,
	})
	c.check(t)
	loses(t, results["naive"])
	sound(t, ledger, results["dirty probe"])
}
