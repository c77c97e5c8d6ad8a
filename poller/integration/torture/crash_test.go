package torture

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
)

// crashes stops and restarts a server four times, three times by a crash and once cleanly,
// each time while a transaction is prepared.
type crashes struct {
	server   *dbtest.Server
	db       *sqlx.DB
	prepared string // the query that lists prepared transactions
	ends     int
}

// run does that each time the server has run for a while. It is the Background of a trial.
func (c *crashes) run(ctx context.Context) error {
	for _, end := range []func() error{c.server.Kill, c.server.Kill, c.server.Stop, c.server.Kill} {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(1500 * time.Millisecond):
		}
		if !c.wait(ctx) {
			return nil // the writers have ended
		}
		if err := end(); err != nil {
			return err
		}
		if err := c.server.Start(); err != nil {
			return err
		}
		c.ends++
	}
	return nil
}

// wait waits until a transaction is prepared. It returns false if ctx ends first.
func (c *crashes) wait(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, err := c.count(); err == nil && n > 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
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

// untilConclusive repeats a trial with other seeds until the event under test has happened,
// which depends on the seed and on timing. Every trial is checked on its own.
func untilConclusive(t *testing.T, run func(seed uint64) (conclusive bool)) {
	for try := range uint64(10) {
		if run(*seedFlag + try) {
			return
		}
	}
	require.Fail(t, "the event under test did not happen in ten trials, so the test shows nothing")
}

// Without synchronous commit, a crash loses the rows that were confirmed last, but never a
// delivered row.
func TestPostgresCrashes(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t, "-c", "fsync=on", "-c", "full_page_writes=on", "-c", "synchronous_commit=off", "-c", "wal_writer_delay=500ms")
	d := server.NewDatabase(t)
	db := open(t, d)
	untilConclusive(t, func(seed uint64) bool {
		db.MustExec(`drop table if exists orders; ` + orders + withTx)
		c := crashes{server: server, db: db, prepared: `select gid from pg_prepared_xacts`}
		ledger, results := trial(t, "Postgres, asynchronous commit, crashes", hostile.Trial{
			Writers:    hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: seed, Acts: soundActs(t, db), Rollbacks: 0.1, Prepared: 0.2, Outages: true},
			Readers:    both(selectOnly(t, d, db, `grant select on orders to reader`)),
			Background: c.run,
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["lock fence"])
		requireSound(t, ledger, results["transaction id"])
		counts := ledger.Counts()
		return c.ends > 0 && counts.Reconnected > 0 && counts.LostByServer > 0
	})
}

// With its default settings MariaDB loses no confirmed row.
func TestMariaDBCrashes(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startMariaDB(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	untilConclusive(t, func(seed uint64) bool {
		db.MustExec(`drop table if exists orders`)
		db.MustExec(ordersMariaDB)
		restricted := selectOnlyMariaDB(t, d, db)
		c := crashes{server: server, db: db, prepared: `xa recover`}
		ledger, results := trial(t, "MariaDB, crashes", hostile.Trial{
			Writers:    hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: seed, Acts: soundActs(t, db), Rollbacks: 0.1, Prepared: 0.2, Outages: true},
			Readers:    []hostile.Reader{naive(restricted, "id"), reader("dirty probe", restricted, mysql.DirtyProbe{}, "id")},
			Background: c.run,
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["dirty probe"])
		return c.ends > 0 && ledger.Counts().Reconnected > 0
	})
}
