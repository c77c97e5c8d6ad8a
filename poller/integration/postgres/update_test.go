package postgres

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// After a bulk update all rows have the same transaction id, or the same stamp in whole
// seconds. Each is read once, in order, batch by batch.
func TestBulkUpdate(t *testing.T) {
	t.Parallel()
	rows := 1_000_000
	if testing.Short() || lab.Race() { // one goroutine reads all rows, which takes minutes with the race detector
		rows = 20_000
	}
	server := dbtest.StartPostgres(t)
	for _, c := range []struct{ name, column, trigger string }{
		{"transaction", "ver xid8", "pg_current_xact_id()"},
		{"seconds", "ver timestamptz(0)", "clock_timestamp()"},
		{"microseconds", "ver timestamptz", "clock_timestamp()"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := server.NewDatabase(t).Open(t, dbtest.PGX)
			db.MustExec(fmt.Sprintf(`create table orders (id bigint primary key, %[1]s not null default %[2]s, v int);
				create function set_ver() returns trigger language plpgsql as $$ begin new.ver := %[2]s; return new; end $$;
				create trigger set_ver before insert or update on orders for each row execute function set_ver();
				insert into orders select i from generate_series(1, %[3]d) i; create index on orders (ver, id); analyze orders`, c.column, c.trigger, rows))
			r := follow(t, db, "ver", "id")
			if c.name != "transaction" {
				r.table.Ceiling = postgres.Stamp{}
			}
			read := func() {
				t.Helper()
				seen := make([]bool, rows+1)
				batches := 0
				for n := 0; n < rows; batches++ {
					b, err := r.table.Fetch(t.Context(), r.at, 10_000)
					require.NoError(t, err)
					r.at = b.To
					for i, rec := range b.Records {
						var id int
						text, _ := rec.Get("id")
						_, err := fmt.Sscan(text, &id)
						require.NoError(t, err)
						require.False(t, seen[id], "%d twice", id)
						seen[id] = true
						if c.name == "transaction" {
							require.Equal(t, n+i+1, id, "in the order of the key")
						}
					}
					n += len(b.Records)
				}
				require.Empty(t, r.next())
			}
			read()
			db.MustExec(`update orders set v = 1`)
			read()
			check, err := r.table.Check(t.Context(), r.at)
			require.NoError(t, err)
			require.True(t, check.Safe())
			require.NotContains(t, strings.Join(check.Plan, "\n"), "Sort")
		})
	}
}

// Stamps by now() are refused, because the start of a transaction says nothing about the
// order of commits: even the fence loses such a row.
func TestStampsByNowAreLossy(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key, at timestamptz default clock_timestamp()); create index on orders (at, id)`)
	r := follow(t, db, "at", "id")
	r.table.Ceiling = postgres.Stamp{}
	require.Empty(t, r.next())
	db.MustExec(`alter table orders alter at set default now()`)
	early := lab.Begin(t, db, `select now()`)
	db.MustExec(`insert into orders values (2)`)
	// The default changed: the table is probed again and refused from now on.
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, r.fails(), &unsafe)
	naive := follow(t, db, "at", "id")
	naive.table.Ceiling = ceiling.None{}
	require.Equal(t, []string{"2"}, naive.next())
	_, err := early.Exec(`insert into orders values (1)`)
	require.NoError(t, err)
	require.NoError(t, early.Commit())
	require.Empty(t, naive.next(), "1 has an earlier stamp, and is lost")
}

// After the crash of a backend the server reinitializes without a new postmaster, and
// assigns virtual transaction ids again.
func TestLockFenceCrashOfAProcess(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key)`)
	r := follow(t, db, "id")
	require.Empty(t, r.next())
	tx := lab.Begin(t, db, `insert into orders default values`)
	_, err := tx.Exec(`prepare transaction 'kept'`)
	require.NoError(t, err)
	_ = tx.Commit() // the transaction is prepared already
	db.MustExec(`insert into orders default values`)
	require.Empty(t, r.next())
	for range 3 {
		crash(t, db)
		// New transactions take the ids of the ended ones.
		for range 5 {
			lab.Begin(t, db, `insert into orders default values`)
		}
		require.Empty(t, r.next())
		require.NotNil(t, r.last.Held)
		require.Contains(t, strings.Join(r.last.Held.By, ", "), `prepared transaction "kept"`)
	}
	crash(t, db)
	db.MustExec(`commit prepared 'kept'`)
	require.Equal(t, []string{"1", "2"}, r.next())
}

// crash kills a backend.
func crash(t *testing.T, db *sqlx.DB) {
	t.Helper()
	var pid int
	var before, now string
	const reset = `select pg_stat_get_bgwriter_stat_reset_time()::text` // backends that are about to end may still answer
	require.NoError(t, db.Get(&before, reset))
	require.NoError(t, db.Get(&pid, `select pg_backend_pid()`))
	backend, err := os.FindProcess(pid)
	require.NoError(t, err)
	require.NoError(t, backend.Kill())
	lab.WaitFor(t, func() bool { return db.Get(&now, reset) == nil && now != before })
}
