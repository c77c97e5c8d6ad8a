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

// crashes ends a server, three times by a crash and once in order, each time when
// a transaction is prepared, and starts it again.
type crashes struct {
	server   *dbtest.Server
	db       *sqlx.DB
	prepared string // the query that lists prepared transactions
	ends     int
}

// run does so when the server has run for a while.
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

// wait waits until a transaction is prepared, and reports false if ctx ends first.
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

// untilTelling runs a trial until the event that it tests has happened, which depends on
// the seed and the machine. Each run is judged separately.
func untilTelling(t *testing.T, run func(seed uint64) (telling bool)) {
	for try := range uint64(10) {
		if run(*seedFlag + try) {
			return
		}
	}
	require.Fail(t, "in ten runs what it is for did not happen, so this test tests nothing")
}

// A server without synchronous commit loses its last confirmed transactions when it
// crashes. Delivered rows are never among them.
func TestPostgresCrashes(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t, "-c", "fsync=on", "-c", "full_page_writes=on", "-c", "synchronous_commit=off", "-c", "wal_writer_delay=500ms")
	d := server.NewDatabase(t)
	db := open(t, d)
	untilTelling(t, func(seed uint64) bool {
		db.MustExec(`drop table if exists orders; ` + orders + withTx)
		c := crashes{server: server, db: db, prepared: `select gid from pg_prepared_xacts`}
		ledger, results := trial(t, "Postgres, asynchronous commit, crashes", hostile.Trial{
			Writers:   hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: seed, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.2, Outages: true},
			Readers:   both(poor(t, d, db, `grant select on orders to reader`)),
			Meanwhile: c.run,
		})
		loses(t, results["naive"])
		sound(t, ledger, results["lock fence"])
		sound(t, ledger, results["transaction id"])
		counts := ledger.Counts()
		return c.ends > 0 && counts.Survived > 0 && counts.TakenBack > 0
	})
}

// MariaDB keeps confirmed transactions with its default settings.
func TestMariaDBCrashes(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startMariaDB(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	untilTelling(t, func(seed uint64) bool {
		db.MustExec(`drop table if exists orders`)
		db.MustExec(ordersMariaDB)
		low := poorMariaDB(t, d, db)
		c := crashes{server: server, db: db, prepared: `xa recover`}
		ledger, results := trial(t, "MariaDB, crashes", hostile.Trial{
			Writers:   hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 40_000, Seed: seed, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.2, Outages: true},
			Readers:   []hostile.Reader{naive(low, "id"), reader("dirty probe", low, mysql.DirtyProbe{}, "id")},
			Meanwhile: c.run,
		})
		loses(t, results["naive"])
		sound(t, ledger, results["dirty probe"])
		return c.ends > 0 && ledger.Counts().Survived > 0
	})
}
