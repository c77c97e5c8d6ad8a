package torture

import (
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
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

// orders is a table as applications have it, with a trigger that now and then is
// slow after the key was drawn.
const orders = `
create table orders (id bigserial primary key, token bigint not null unique, note text not null default 'none');
create function slow() returns trigger language plpgsql as $$ begin
	if random() < 0.0005 then perform pg_sleep(random() * 0.5); end if;
	return new;
end $$;
create trigger slow before insert on orders for each row execute function slow();`

var ordersTable = hostile.Table{Name: "orders", Key: "id", Token: "token"}

// poor returns the database as a role sees it that may do no more than grants
// say.
func poor(t *testing.T, d dbtest.Database, admin *sqlx.DB, grants string) *sqlx.DB {
	admin.MustExec(`do $$ begin create role reader login password 'reader'; exception when duplicate_object then null; end $$; ` + grants)
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
func rounds(f func(seed uint64, n int)) {
	for left, i := rows(), uint64(0); left > 0; i++ {
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
	server := startPostgres(t)
	rounds(func(seed uint64, n int) {
		d := server.NewDatabase(t)
		db := open(t, d)
		db.MustExec(orders)
		low := poor(t, d, db, `grant select on orders to reader`)
		ledger, results := trial(t, "Postgres, lock fence", hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: n, For: *forFlag, Seed: seed, Acts: sure(t, db), Rollbacks: 0.1, Prepared: 0.1},
			Readers: []hostile.Reader{naive(low, "id"), reader("fence", low, ceiling.LockFence{}, "id")},
		})
		loses(t, results["naive"])
		sound(t, ledger, results["fence"])
	})
}
