package torture

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// maxRound is the largest number of rows of a round. The ledger of a round is kept in
// memory.
const maxRound = 1_000_000

// connections is the limit of the writers' connections: each writer may need a second one
// to draw keys.
const connections = 70

func startPostgres(t *testing.T, args ...string) *dbtest.Server {
	return dbtest.StartPostgres(t, dbtest.Args(append([]string{
		"-c", "max_prepared_transactions=64", "-c", "max_wal_size=4GB", "-c", "shared_buffers=256MB",
	}, args...)...))
}

// orders creates a typical table of an application.
const orders = `
create table orders (id bigserial primary key, token bigint not null unique, note text not null default 'none');`

// slow creates a trigger that is sometimes slow, after the key was drawn.
const slow = `
create function slow() returns trigger language plpgsql as $$ begin
	if random() < 0.0005 then perform pg_sleep(random() * 0.5); end if;
	return new;
end $$;
create trigger slow before insert on orders for each row execute function slow();`

// withTx adds the column for the TransactionID ceiling.
const withTx = `
alter table orders add column _tx xid8 not null default pg_current_xact_id();
create index on orders (_tx, id);`

var ordersTable = hostile.Table{Name: "orders", Key: "id", Token: "token"}

// selectOnly opens the database as a role that has only the rights in grants.
func selectOnly(t *testing.T, d dbtest.Database, admin *sqlx.DB, grants string) *sqlx.DB {
	admin.MustExec(`do $$ begin create role reader login password 'reader'; exception when duplicate_object or unique_violation then null; end $$; ` + grants)
	db := d.WithUser("reader", "reader").Open(t, dbtest.PGX)
	db.SetMaxOpenConns(10)
	return db
}

func naive(db *sqlx.DB, key ...string) hostile.Reader {
	return reader("naive", db, ceiling.None{}, key...)
}

func reader(name string, db *sqlx.DB, c ceiling.Ceiling, key ...string) hostile.Reader {
	return hostile.Reader{Name: name, Key: key, Source: &sqlsource.Table{DB: db, Name: "orders", Key: key, Ceiling: c, Logger: slog.New(slog.DiscardHandler)}}
}

// rounds calls f with the seed and the number of rows of each round, until all rows are
// committed.
func rounds(t *testing.T, f func(seed uint64, n int)) {
	for left, i := rows(), uint64(0); left > 0 && !t.Failed(); i++ {
		n := min(left, maxRound)
		f(*seedFlag+i, n)
		left -= n
	}
}

func open(t *testing.T, d dbtest.Database) *sqlx.DB {
	db := d.Open(t, d.Drivers()[0])
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// soundActs are all sound acts for Postgres. No ceiling but a lossy one may miss their
// rows.
func soundActs(t *testing.T, db *sqlx.DB) []hostile.Act {
	acts, err := hostile.Common(db.DB)
	require.NoError(t, err)
	return append(acts, hostile.DeleteNewest.WithWeight(0.3), hostile.DeleteAny.WithWeight(0.3))
}

// The lock fence misses no row of a typical table, for a role with no right but SELECT.
func TestLockFence(t *testing.T) {
	t.Parallel()
	server := startPostgres(t)
	rounds(t, func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		defer db.Close() // frees the connections, because a long run has many rounds
		db.MustExec(orders + slow)
		restricted := selectOnly(t, d, db, `grant select on orders to reader`)
		defer restricted.Close()
		ledger, results := trial(t, "Postgres, lock fence", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: soundActs(t, db), Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(restricted, "id"), reader("lock fence", restricted, postgres.LockFence{}, "id")},
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["lock fence"])
		db.MustExec(`drop table orders`)
	})
}

// The transaction id ceiling misses no row either.
func TestTransactionID(t *testing.T) {
	t.Parallel()
	server := startPostgres(t)
	rounds(t, func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		defer db.Close() // frees the connections, because a long run has many rounds
		db.MustExec(orders + withTx + slow)
		restricted := selectOnly(t, d, db, `grant select on orders to reader`)
		defer restricted.Close()
		// With this ceiling, it does not matter who draws the key, and when.
		acts := append(soundActs(t, db), hostile.NextvalEarlier, hostile.LowKeys)
		ledger, results := trial(t, "Postgres, transaction id", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: acts, Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(restricted, "_tx", "id"), reader("transaction id", restricted, postgres.TransactionID{}, "_tx", "id")},
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["transaction id"])
		db.MustExec(`drop table orders`)
	})
}

// both returns readers with both ceilings, and a naive reader, to read a table
// concurrently.
func both(db *sqlx.DB) []hostile.Reader {
	return []hostile.Reader{naive(db, "id"), reader("lock fence", db, postgres.LockFence{}, "id"), reader("transaction id", db, postgres.TransactionID{}, "_tx", "id")}
}

// Statements that insert 200,000 rows of which two are new.
func TestPostgresUpsert(t *testing.T) {
	t.Parallel()
	notShort(t)
	const prefill = 200_000
	server := startPostgres(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	upsert := hostile.Upsert(prefill)
	untilConclusive(t, func(seed uint64) bool { // of so few upserts a seed may draw none
		db.MustExec(`drop table if exists orders; ` + orders + withTx)
		ledger, results := trial(t, "Postgres, ON CONFLICT of 200,000", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: seed, Prefill: prefill,
				Acts: append(soundActs(t, db), upsert.WithWeight(0.05))},
			Readers: both(selectOnly(t, d, db, `grant select on orders to reader`)),
		})
		requireLoss(t, results["naive"])
		requireSound(t, ledger, results["lock fence"])
		requireSound(t, ledger, results["transaction id"])
		return ledger.Acts()[upsert.Name] > 0
	})
}

// New partitions are attached to a table while it is read.
func TestPartitions(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	db.MustExec(`create table orders (id bigserial, token bigint not null, part int not null, _tx xid8 not null default pg_current_xact_id(), primary key (id, part), unique (token, part)) partition by list (part);
		create index on orders (_tx, id);` + slow)
	var parts atomic.Int64
	attach := func(context.Context) error {
		n := parts.Load()
		_, err := db.Exec(fmt.Sprintf(`create table orders%d (like orders including defaults); alter table orders attach partition orders%[1]d for values in (%[1]d)`, n))
		parts.Add(1)
		return err
	}
	for range 4 {
		require.NoError(t, attach(t.Context()))
	}
	table := ordersTable
	table.Columns, table.Values = []string{"part"}, func(r *rand.Rand) []any { return []any{r.IntN(int(parts.Load()))} }
	ledger, results := trial(t, "Postgres, empty partitions attached", hostile.Trial{
		// A transaction that has written before does not see a new partition, and fails if
		// it writes there. That does not concern the readers.
		Writers:    hostile.Writers{DB: db.DB, Table: table, Rows: 20_000, Seed: *seedFlag, Acts: soundActs(t, db), Rollbacks: 0.1, Prepared: 0.1, Outages: true},
		Readers:    both(selectOnly(t, d, db, `grant select on orders to reader`)),
		Background: every(500*time.Millisecond, attach),
	})
	var late int
	require.NoError(t, db.Get(&late, `select count(*) from orders where part >= 4`))
	require.Positive(t, late, "no row was inserted into an attached partition")
	requireLoss(t, results["naive"])
	requireSound(t, ledger, results["lock fence"])
	requireSound(t, ledger, results["transaction id"])
}

// TRUNCATE without RESTART IDENTITY does not change the sequence, so the cursor stays
// valid.
func TestTruncate(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	untilConclusive(t, func(seed uint64) bool { // a seed may draw none
		db.MustExec(`drop table if exists orders; ` + orders + withTx)
		ledger, results := trial(t, "Postgres, TRUNCATE", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: seed, Hold: 100 * time.Millisecond, Acts: []hostile.Act{hostile.MultiRow.WithWeight(150), hostile.Truncate}},
			Readers: both(selectOnly(t, d, db, `grant select on orders to reader`)),
		})
		requireSound(t, ledger, results["lock fence"])
		requireSound(t, ledger, results["transaction id"])
		return ledger.Acts()[hostile.Truncate.Name] > 0
	})
}

// every returns a function that calls f at each interval.
func every(d time.Duration, f func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := f(ctx); err != nil {
					return err
				}
			}
		}
	}
}
