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

// maxRound is the most rows of one round, whose ledger is kept in memory.
const maxRound = 1_000_000

// connections of the writers: each may need another to draw keys by.
const connections = 70

func startPostgres(t *testing.T, args ...string) *dbtest.Server {
	return dbtest.StartPostgres(t, dbtest.Args(append([]string{
		"-c", "max_prepared_transactions=64", "-c", "max_wal_size=4GB", "-c", "shared_buffers=256MB",
	}, args...)...))
}

// orders is a table as applications have it.
const orders = `
create table orders (id bigserial primary key, token bigint not null unique, note text not null default 'none');`

// slow is a trigger that now and then is slow after the key was drawn.
const slow = `
create function slow() returns trigger language plpgsql as $$ begin
	if random() < 0.0005 then perform pg_sleep(random() * 0.5); end if;
	return new;
end $$;
create trigger slow before insert on orders for each row execute function slow();`

// withTx adds the column that TransactionID reads by.
const withTx = `
alter table orders add column _tx xid8 not null default pg_current_xact_id();
create index on orders (_tx, id);`

var ordersTable = hostile.Table{Name: "orders", Key: "id", Token: "token"}

// poor returns the database as a role sees it that may do no more than grants
// say.
func poor(t *testing.T, d dbtest.Database, admin *sqlx.DB, grants string) *sqlx.DB {
	admin.MustExec(`do $$ begin create role reader login password 'reader'; exception when duplicate_object or unique_violation then null; end $$; ` + grants)
	db := d.As("reader", "reader").Open(t, dbtest.PGX)
	db.SetMaxOpenConns(10)
	return db
}

func naive(db *sqlx.DB, key ...string) hostile.Reader {
	return reader("naive", db, ceiling.None{}, key...)
}

func reader(name string, db *sqlx.DB, c ceiling.Ceiling, key ...string) hostile.Reader {
	return hostile.Reader{Name: name, Key: key, Source: &sqlsource.Table{DB: db, Name: "orders", Key: key, Ceiling: c, Logger: slog.New(slog.DiscardHandler)}}
}

// rounds calls f until all rows are committed, with the seed and rows of each
// round.
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

// sure are all sound acts on Postgres, which no reader but a lossy one may
// stumble over.
func sure(t *testing.T, db *sqlx.DB) []hostile.Act {
	acts, err := hostile.Common(db.DB)
	require.NoError(t, err)
	return append(acts, hostile.DeleteNewest.Weigh(0.3), hostile.DeleteAny.Weigh(0.3))
}

// The lock fence misses nothing on a table as it is, for a role that may no more
// than SELECT.
func TestLockFence(t *testing.T) {
	t.Parallel()
	server := startPostgres(t)
	rounds(t, func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		defer db.Close() // a server has so many connections, and a long run so many rounds
		db.MustExec(orders + slow)
		low := poor(t, d, db, `grant select on orders to reader`)
		defer low.Close()
		ledger, results := trial(t, "Postgres, lock fence", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(low, "id"), reader("lock fence", low, postgres.LockFence{}, "id")},
		})
		loses(t, results["naive"])
		sound(t, ledger, results["lock fence"])
		db.MustExec(`drop table orders`)
	})
}

// Neither does the transaction's id in a column.
func TestTransactionID(t *testing.T) {
	t.Parallel()
	server := startPostgres(t)
	rounds(t, func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		defer db.Close() // a server has so many connections, and a long run so many rounds
		db.MustExec(orders + withTx + slow)
		low := poor(t, d, db, `grant select on orders to reader`)
		defer low.Close()
		// By the transaction's id nothing depends on who draws the key, and when.
		acts := append(sure(t, db), hostile.Earlier, hostile.Low)
		ledger, results := trial(t, "Postgres, transaction id", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: acts, Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(low, "_tx", "id"), reader("transaction id", low, postgres.TransactionID{}, "_tx", "id")},
		})
		loses(t, results["naive"])
		sound(t, ledger, results["transaction id"])
		db.MustExec(`drop table orders`)
	})
}

// both lets both strategies, and a naive reader, read a table by the side of each
// other.
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
	untilTelling(t, func(seed uint64) bool { // of so few upserts a seed may draw none
		db.MustExec(`drop table if exists orders; ` + orders + withTx)
		ledger, results := trial(t, "Postgres, ON CONFLICT of 200,000", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: seed, Prefill: prefill,
				Acts: append(sure(t, db), upsert.Weigh(0.05))},
			Readers: both(poor(t, d, db, `grant select on orders to reader`)),
		})
		loses(t, results["naive"])
		sound(t, ledger, results["lock fence"])
		sound(t, ledger, results["transaction id"])
		return ledger.Acts()[upsert.Name] > 0
	})
}

// A table of partitions, new ones of which are attached as it is read.
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
		// A transaction that has written before does not see a new partition, and
		// fails if it writes there. That does not concern the readers.
		Writers:   hostile.Writers{DB: db.DB, Table: table, Rows: 20_000, Seed: *seedFlag, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1, Outages: true},
		Readers:   both(poor(t, d, db, `grant select on orders to reader`)),
		Meanwhile: every(500*time.Millisecond, attach),
	})
	var late int
	require.NoError(t, db.Get(&late, `select count(*) from orders where part >= 4`))
	require.Positive(t, late, "rows went into partitions that were attached")
	loses(t, results["naive"])
	sound(t, ledger, results["lock fence"])
	sound(t, ledger, results["transaction id"])
}

// TRUNCATE alone leaves the sequence unchanged, and does not end a history.
func TestTruncate(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	untilTelling(t, func(seed uint64) bool { // a seed may draw none
		db.MustExec(`drop table if exists orders; ` + orders + withTx)
		ledger, results := trial(t, "Postgres, TRUNCATE", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Seed: seed, Hold: 100 * time.Millisecond, Acts: []hostile.Act{hostile.Multi.Weigh(150), hostile.Truncate}},
			Readers: both(poor(t, d, db, `grant select on orders to reader`)),
		})
		sound(t, ledger, results["lock fence"])
		sound(t, ledger, results["transaction id"])
		return ledger.Acts()[hostile.Truncate.Name] > 0
	})
}

// every returns what calls f at each interval.
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
