package postgres

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// Columns that earlier versions of the package printed: with a trigger, each change is read.
var recipes = map[string]string{
	"_tx": `alter table {table} add column {column} xid8 not null default pg_current_xact_id();
		create function {table}_{column}() returns trigger language plpgsql as ' BEGIN NEW."{column}" := pg_catalog.pg_current_xact_id(); RETURN NEW; END ';`,
	"_at": `alter table {table} add column {column} timestamptz not null default now();
		alter table {table} alter column {column} set default clock_timestamp();
		create function {table}_{column}() returns trigger language plpgsql as ' BEGIN NEW."{column}" := pg_catalog.clock_timestamp(); RETURN NEW; END ';`,
}

// addRecipe adds such a column to a table, with its trigger and index.
func addRecipe(db *sqlx.DB, table, column string, key ...string) {
	fill := strings.NewReplacer("{table}", table, "{column}", column, "{key}", strings.Join(key, ", "))
	db.MustExec(fill.Replace(recipes[column]))
	db.MustExec(fill.Replace(`create trigger zz_devotion_{table}_{column} before insert or update on {table} for each row execute function {table}_{column}()`))
	db.MustExec(fill.Replace(`create index on {table} ({column}, {key})`))
}

// A column of an earlier version is still recognised, and its trigger is known to be safe.
func TestRecipes(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off")) // the reader would wait for its transactions
	for name, c := range map[string]struct {
		create string
		key    []string
	}{
		"uuid": {`create table orders (id uuid primary key default gen_random_uuid(), v int)`, []string{"id"}},
		"partitioned": {`create table orders (id uuid default gen_random_uuid(), v int, at timestamptz not null default now(), primary key (id, at)) partition by range (at);
			create table part_of_orders partition of orders default`, []string{"at", "id"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := server.NewDatabase(t).Open(t, dbtest.PGX)
			db.MustExec(c.create)
			db.MustExec(`insert into orders (v) values (1), (2)`)
			for _, column := range []string{"_tx", "_at"} {
				addRecipe(db, "orders", column, c.key...)
			}
			readByRecipe(t, db, "orders", c.key)
		})
	}
}

// No remedy for a key adds a column: the application's INSERT and COPY without a list of columns
// would break, and so would whoever selects a star.
func TestNoRemedyAddsAColumn(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id uuid primary key, at timestamptz not null default now(), v int)`)
	for _, key := range [][]string{{"id"}, {"at", "id"}} {
		_, err := defaultCeiling{}.Open(t.Context(), db.DB, ceilingTable("orders", key...))
		var unsafe *ceiling.UnsafeError
		require.ErrorAs(t, err, &unsafe)
		f := findingWith(t, unsafe.Report, "the key begins with")
		require.Contains(t, f.Remedies[0].Words, "dbtofile -check -table orders prints the statements")
		for _, remedy := range f.Remedies {
			require.Empty(t, remedy.Statements)
		}
		require.NotContains(t, err.Error(), "lossy")
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
}

// A trigger that fires after the one of the recipe could change the column.
func TestTriggerAfterTheRecipe(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id uuid primary key, v int)`)
	addRecipe(db, "orders", "_tx", "id")
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
