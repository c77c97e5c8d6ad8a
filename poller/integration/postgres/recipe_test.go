package postgres

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// Every recipe in an error or a note can be run twice, on a second table, and on a table
// that has columns of those names. It keeps the user's columns, and the application's
// statements work as before.
func TestRecipes(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off")) // the reader would wait for its transactions
	for name, c := range map[string]struct {
		create string // CREATE TABLE statement; %s is the name
		key    []string
	}{
		"uuid":        {`create table %s (id uuid primary key default gen_random_uuid(), v int)`, []string{"id"}},
		"time":        {`create table %s (id serial primary key, at timestamptz not null default now(), v int)`, []string{"at", "id"}},
		"taken":       {`create table %s (id uuid primary key default gen_random_uuid(), v int, _tx text default 'mine', _at text default 'mine')`, []string{"id"}},
		"taken, time": {`create table %s (id serial primary key, at timestamptz not null default now(), v int, _tx text default 'mine', _at text default 'mine')`, []string{"at", "id"}},
		"partitioned": {`create table %s (id uuid default gen_random_uuid(), v int, at timestamptz not null default now(), primary key (id, at)) partition by range (at);
			create table part_of_%[1]s partition of %[1]s default`, []string{"at", "id"}},
		"inherited": {`create table %s (id uuid primary key default gen_random_uuid(), v int); create table child_of_%[1]s () inherits (%[1]s)`, []string{"id"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := server.NewDatabase(t).Open(t, dbtest.PGX)
			tables := []string{"orders", "a_table_whose_name_is_so_long_that_nothing_can_be_added_to_it_00"[:63]}
			for _, table := range tables {
				db.MustExec(fmt.Sprintf(c.create, table))
				db.MustExec(`insert into ` + table + ` (v) values (1), (2)`)
			}
			for _, table := range tables {
				_, err := defaultCeiling{}.Open(t.Context(), db.DB, ceilingTable(table, c.key...))
				var unsafe *ceiling.UnsafeError
				require.ErrorAs(t, err, &unsafe)
				f := findingWith(t, unsafe.Report, "the key begins with")
				require.GreaterOrEqual(t, len(f.Remedies), 2)
				for _, remedy := range f.Remedies[:2] { // a third remedy, for times, has no statements
					run(t, db, remedy.Statements)
					run(t, db, remedy.Statements)
				}
			}
			for _, table := range tables {
				readByRecipe(t, db, table, c.key)
			}
		})
	}
}

func readByRecipe(t *testing.T, db *sqlx.DB, table string, key []string) {
	t.Helper()
	var columns []string
	require.NoError(t, db.Select(&columns, `select attname from pg_attribute where attrelid = $1::regclass and attname ~ '^_(tx|at)[0-9]*$' and atttypid <> 'text'::regtype`, table))
	require.NotEmpty(t, columns)
	for _, column := range columns {
		r := follow(t, db, append([]string{column}, key...)...)
		r.table.Name, r.table.Columns = table, []string{"v"}
		by := ceiling.Ceiling(defaultCeiling{})
		if column[:3] == "_at" {
			r.table.Ceiling, by = postgres.Stamp{}, postgres.Stamp{}
		}
		report := guard(t, db, table, by, r.table.Key...).Report()
		require.Contains(t, report.Guarantee, "its latest version again after each change")
		require.NotContains(t, report.Guarantee, "as long as", "the recipe's own trigger is known to be safe")
		for _, f := range report.Findings {
			require.NotEqual(t, ceiling.Warning, f.Level, f.Text)
		}
		count := func() (n int) {
			t.Helper()
			for {
				b, err := r.table.Fetch(t.Context(), r.at, 1000)
				require.NoError(t, err)
				n, r.at = n+len(b.Records), b.To
				if !b.More && b.Held == nil {
					return n
				}
			}
		}
		before := count()
		require.GreaterOrEqual(t, before, 2)
		db.MustExec(`insert into ` + table + ` (v) values (3)`)
		require.Equal(t, 1, count())
		db.MustExec(`update ` + table + ` set v = v + 1`)
		require.Equal(t, before+1, count())
	}
	var changed int // rows where a column of the user changed
	for _, own := range []string{"_tx", "_at"} {
		var text bool
		require.NoError(t, db.Get(&text, `select exists (select from pg_attribute where attrelid = $1::regclass and attname = $2 and atttypid = 'text'::regtype)`, table, own))
		if text {
			require.NoError(t, db.Get(&changed, `select count(*) from `+table+` where `+own+` is distinct from 'mine'`))
			require.Zero(t, changed)
		}
	}
}

// INSERT without a column list still works, because the new column is the last one and has
// a default.
func TestRecipeWithOldStatements(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id uuid primary key, v int)`)
	_, err := defaultCeiling{}.Open(t.Context(), db.DB, ceilingTable("orders", "id"))
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
	for _, remedy := range findingWith(t, unsafe.Report, "the key begins with").Remedies {
		run(t, db, remedy.Statements)
		db.MustExec(`insert into orders values (gen_random_uuid(), 1)`)
		db.MustExec(`update orders set v = 2`)
		db.MustExec(`insert into orders select gen_random_uuid(), 3`)
	}
}

// A trigger that fires after the one of the recipe could change the column.
func TestTriggerAfterTheRecipe(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id uuid primary key, v int)`)
	_, err := defaultCeiling{}.Open(t.Context(), db.DB, ceilingTable("orders", "id"))
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
	run(t, db, findingWith(t, unsafe.Report, "the key begins with").Remedies[1].Statements)
	db.MustExec(`create function other() returns trigger language plpgsql as $$ begin return new; end $$`)
	for name, assumed := range map[string]bool{"before": false, "zzz": true} {
		db.MustExec(`create trigger ` + name + ` before insert or update on orders for each row execute function other()`)
		text := guard(t, db, "orders", defaultCeiling{}, "_tx", "id").Report().Guarantee
		if assumed {
			require.Contains(t, text, `as long as the trigger zzz on orders sets "_tx" to nothing but pg_current_xact_id()`)
		} else {
			require.NotContains(t, text, "as long as")
		}
		db.MustExec(`drop trigger ` + name + ` on orders`)
	}
}

// The printed index is built once, however often the statement is run. An invalid one, as a
// CREATE INDEX CONCURRENTLY that failed leaves it, does not count as an index, and is built again.
func TestKeyIndex(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	indexes := func() (n int) {
		require.NoError(t, db.Get(&n, `select count(*) from pg_index where indrelid = 'orders'::regclass`))
		return n
	}
	find := func(text string) ceiling.Finding {
		return findingWith(t, guard(t, db, "orders", defaultCeiling{}, "id").Report(), text)
	}
	for _, partitioned := range []string{"", " partition by hash (id)"} {
		db.MustExec(`create table orders (id bigint generated always as identity, v int)` + partitioned)
		f := find("no index begins with the key")
		for range 2 {
			run(t, db, f.Remedies[0].Statements)
			require.Equal(t, 1, indexes())
		}
		require.Equal(t, ceiling.OK, find("an index begins with the key").Level)
		db.MustExec(`drop table orders`)
	}
	db.MustExec(`create table orders (id bigint generated always as identity, v int); insert into orders (v) values (1)`)
	for _, failed := range []string{find("no index begins").Remedies[0].Statements[0], `create index concurrently "My Index" on orders (id, v)`} {
		failAtTheEnd(t, db, failed)
		require.Equal(t, 1, indexes())
		f := find("is invalid")
		require.Equal(t, ceiling.Warning, f.Level)
		for range 2 {
			run(t, db, f.Remedies[0].Statements)
			require.Equal(t, 1, indexes())
		}
		require.Equal(t, ceiling.OK, find("an index begins with the key").Level)
		db.MustExec(`drop table orders; create table orders (id bigint generated always as identity, v int); insert into orders (v) values (1)`)
	}

	// Each REINDEX that fails would leave one more invalid index, so none is printed to be run as it stands.
	db.MustExec(`insert into orders (id, v) overriding system value values (1, 2)`)
	_, err := db.Exec(`create unique index concurrently orders_unique on orders (id)`)
	require.Error(t, err)
	r := find("is invalid").Remedies[0]
	require.Empty(t, r.Statements)
	require.Contains(t, r.Words, "remove the rows that share a key")
}

// A recipe that is printed again builds an invalid index again, which IF NOT EXISTS would keep.
func TestRecipeAfterAFailedIndex(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id uuid primary key, v int)`)
	recipe := func() ceiling.Remedy {
		_, err := defaultCeiling{}.Open(t.Context(), db.DB, ceilingTable("orders", "id"))
		var unsafe *ceiling.UnsafeError
		require.ErrorAs(t, err, &unsafe)
		return findingWith(t, unsafe.Report, "the key begins with").Remedies[1]
	}
	first := recipe()
	require.Contains(t, first.Words, "cannot be a HOT update")
	require.Contains(t, first.Words, "Subscribers of a publication with the table stop until")
	last := len(first.Statements) - 1
	run(t, db, first.Statements[:last])
	failAtTheEnd(t, db, first.Statements[last])
	run(t, db, first.Statements)
	require.Equal(t, ceiling.Warning, findingWith(t, guard(t, db, "orders", defaultCeiling{}, "_tx", "id").Report(), "is invalid").Level)
	for range 2 {
		run(t, db, recipe().Statements)
		require.Equal(t, ceiling.OK, findingWith(t, guard(t, db, "orders", defaultCeiling{}, "_tx", "id").Report(), "an index begins with the key").Level)
	}
}

// failAtTheEnd makes CREATE INDEX CONCURRENTLY fail after it has added the index: it waits for a
// transaction that holds a lock on the table, and is cancelled.
func failAtTheEnd(t *testing.T, db *sqlx.DB, create string) {
	t.Helper()
	holder := lab.Begin(t, db, `lock table orders in row exclusive mode`)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	var pid int
	require.NoError(t, conn.QueryRowContext(t.Context(), `select pg_backend_pid()`).Scan(&pid))
	done := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(t.Context(), create)
		done <- err
	}()
	lab.WaitFor(t, func() bool {
		var waits bool
		require.NoError(t, db.Get(&waits, `select exists (select from pg_locks where pid = $1 and not granted)
			and exists (select from pg_index where indrelid = 'orders'::regclass and not indisvalid)`, pid))
		return waits
	})
	db.MustExec(`select pg_cancel_backend($1)`, pid)
	require.Error(t, <-done)
	require.NoError(t, holder.Rollback())
}
