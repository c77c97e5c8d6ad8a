package postgres

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// An INSERT into the parent draws the key before it locks a partition. An INSERT into a
// partition does not lock the parent. A reader of either must wait for both.
func TestLockFencePartitions(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial, day int, v text) partition by list (day);
		create table orders_1 partition of orders for values in (1);
		create table orders_2 partition of orders for values in (2);
		create index on orders (id);
		create function slow() returns trigger language plpgsql as $$ begin
			if new.v = 'slow' then perform pg_advisory_xact_lock(1); end if; return new; end $$;
		create trigger slow before insert on orders for each row execute function slow()`)
	parent, leaf := follow(t, db, "id"), follow(t, db, "id")
	leaf.table.Name = "orders_1"
	require.Empty(t, parent.next())
	require.Empty(t, leaf.next())

	// The trigger stops the INSERT when the key is drawn, no partition is locked, and the
	// transaction has no id yet.
	gate := lab.Begin(t, db, `select pg_advisory_xact_lock(1)`)
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec(`insert into orders (day, v) values (1, 'slow')`)
		done <- err
	}()
	lab.WaitFor(t, func() bool {
		var n int
		require.NoError(t, db.Get(&n, `select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`))
		return n == 1
	})
	db.MustExec(`insert into orders (day) values (1), (2)`)
	require.Empty(t, parent.next())
	require.Empty(t, leaf.next())
	require.NoError(t, gate.Commit())
	require.NoError(t, <-done)
	require.Equal(t, []string{"1", "2", "3"}, parent.next())
	require.Equal(t, []string{"1", "2"}, leaf.next())

	tx := lab.Begin(t, db, `insert into orders_2 (day) values (2)`)
	db.MustExec(`insert into orders_1 (day) values (1)`)
	require.Empty(t, parent.next())
	require.NotNil(t, parent.last.Held)
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"4", "5"}, parent.next())
	require.Equal(t, []string{"5"}, leaf.next())

	// A partition that is attached later is watched from then on.
	db.MustExec(`create table orders_3 partition of orders for values in (3)`)
	tx = lab.Begin(t, db, `insert into orders_3 (day) values (3)`)
	db.MustExec(`insert into orders_1 (day) values (1)`)
	require.Empty(t, parent.next())
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"6", "7"}, parent.next())
}

// A key drawn before its INSERT locks the sequence until the end of the transaction, even
// if the savepoint in which it was drawn is rolled back.
func TestLockFenceNextvalAhead(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key, v text)`)
	r := follow(t, db, "id")
	require.Empty(t, r.next())
	tx := lab.Begin(t, db, `savepoint a`, `select nextval('orders_id_seq')`, `rollback to a`)
	db.MustExec(`insert into orders (v) values ('2')`)
	require.Empty(t, r.next())
	_, err := tx.Exec(`insert into orders (id) values (1)`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"1", "2"}, r.next())
}

// Rows above the sequence have explicit keys. If they were read, the cursor would skip keys
// that are still to be drawn.
func TestLockFenceKeyGivenByHand(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key, v text); insert into orders (v) values ('1'); insert into orders (id) values (4)`)
	r := follow(t, db, "id")
	require.Equal(t, []string{"1"}, r.next())
	require.Contains(t, strings.Join(r.last.Held.By, ", "), "sequence public.orders_id_seq")
	require.True(t, r.last.AsOf.IsZero())
	db.MustExec(`insert into orders (v) values ('2'); insert into orders (v) values ('3')`)
	require.Equal(t, []string{"2", "3"}, r.next())
	db.MustExec(`select setval('orders_id_seq', 4)`)
	require.Equal(t, []string{"4"}, r.next())
	require.Nil(t, r.last.Held)
}

// A sequence that was set back is detected before it draws keys below the cursor and a row
// is lost.
func TestLockFenceSequenceSetBack(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"truncate": `truncate orders restart identity`,
		"restart":  `alter sequence orders_id_seq restart`,
		"setval":   `select setval('orders_id_seq', 1)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
			db.MustExec(`create table orders (id bigserial primary key, v text); insert into orders (v) values ('1'), ('2'), ('3')`)
			r := follow(t, db, "id")
			require.Len(t, r.next(), 3)
			db.MustExec(statement)
			err := r.fails()
			require.ErrorIs(t, err, sqlsource.ErrHistory)
			require.ErrorContains(t, err, "it was set back")
		})
	}
	// Keys below the cursor were drawn again, and no poll saw the sequence before it passed
	// the cursor. The same happens to a pipeline that was down.
	t.Run("refilled", func(t *testing.T) {
		t.Parallel()
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		db.MustExec(`create table orders (id bigserial primary key, v text); insert into orders (v) values ('1'), ('2'), ('3')`)
		r := follow(t, db, "id")
		require.Len(t, r.next(), 3)
		tx := lab.Begin(t, db, `truncate orders restart identity`, `insert into orders (v) select 'new' from generate_series(1, 5)`)
		require.NoError(t, tx.Commit())
		restarted := follow(t, db, "id")
		restarted.at = r.at
		for _, r := range []*reading{r, restarted} {
			require.ErrorIs(t, r.fails(), sqlsource.ErrHistory)
			require.ErrorContains(t, r.fails(), "it was restarted")
			r.at = ""
			require.Len(t, r.next(), 5)
		}
	})
	t.Run("cache", func(t *testing.T) {
		t.Parallel()
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		db.MustExec(`create table orders (id bigserial primary key, v text); insert into orders (v) values ('1')`)
		r := follow(t, db, "id")
		require.Len(t, r.next(), 1)
		db.MustExec(`alter sequence orders_id_seq cache 50`)
		var unsafe *ceiling.UnsafeError
		require.ErrorAs(t, r.fails(), &unsafe)
		db.MustExec(`alter sequence orders_id_seq cache 1`)
		require.ErrorContains(t, r.fails(), "or it was only altered")
		var err error
		r.at, err = r.table.Adopt(r.at)
		require.NoError(t, err)
		require.Empty(t, r.next())
	})
	t.Run("emptied", func(t *testing.T) {
		t.Parallel()
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		db.MustExec(`create table orders (id bigserial primary key, v text); insert into orders (v) values ('1')`)
		r := follow(t, db, "id")
		require.Len(t, r.next(), 1)
		for i, s := range []string{`truncate orders`, `delete from orders`, `vacuum full orders`, `reindex table orders`, `alter table orders alter v type varchar(10)`} {
			db.MustExec(s)
			require.Empty(t, r.next())
			db.MustExec(`insert into orders (v) values ('next')`)
			require.Len(t, r.next(), 1, "after %d", i)
		}
	})
}

// A prepared transaction belongs to no session and survives a restart of the server.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	// Autovacuum has transactions too, and the transaction id ceiling would wait for them.
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "max_prepared_transactions=5", "-c", "autovacuum=off"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key, _tx xid8 default pg_current_xact_id()); create index on orders (_tx, id)`)
	fence, ids := follow(t, db, "id"), follow(t, db, "_tx", "id")
	require.Empty(t, fence.next())
	require.Empty(t, ids.next())
	tx := lab.Begin(t, db, `insert into orders default values`)
	db.MustExec(`insert into orders default values`)
	require.Empty(t, fence.next())
	require.Empty(t, ids.next())
	began := time.Now()
	_, err := tx.Exec(`prepare transaction 'transfer 42'`)
	require.NoError(t, err)
	_ = tx.Commit() // the transaction is prepared already

	held := func() {
		t.Helper()
		for _, r := range []*reading{fence, ids} {
			require.Empty(t, r.next())
			r.heldBy(`prepared transaction "transfer 42", open for (\S+)`, began)
		}
	}
	held()
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start())
	lab.WaitFor(t, func() bool { return db.Ping() == nil })
	held()
	db.MustExec(`insert into orders default values`)
	held()
	db.MustExec(`commit prepared 'transfer 42'`)
	require.Equal(t, []string{"1", "2"}, fence.next()[:2])
	require.Equal(t, []string{"1", "2"}, ids.next()[:2])
}

// Whatever changes who gives the key is noticed while no row is above the cursor, too: a new
// trigger may give every row a key below it. A ceiling that reads locks may notice it a few
// seconds later, because it does not compare the tables at each idle poll.
func TestChangesWithoutNewRows(t *testing.T) {
	t.Parallel()
	const trigger = `create function set_id() returns trigger language plpgsql as $$ begin new.id := 7; return new; end $$;
		create trigger set_id before insert on orders for each row execute function set_id()`
	for name, change := range map[string]string{
		"trigger":      trigger,
		"function":     `create or replace function other() returns trigger language plpgsql as $$ begin new.id := 7; return new; end $$`,
		"disabled":     `alter table orders disable trigger other`,
		"child":        `create table child () inherits (orders)`,
		"default":      `alter table orders alter id set default 7`,
		"row security": `alter table orders enable row level security, force row level security`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := dbtest.Postgres(t).NewDatabase(t)
			db := database.Open(t, dbtest.PGX)
			db.MustExec(`create table orders (id bigserial primary key, tx xid8 not null default pg_current_xact_id(), at timestamptz not null default clock_timestamp());
				create function other() returns trigger language plpgsql as $$ begin return new; end $$;
				create trigger other before insert on orders for each row execute function other()`)
			plain := roleOf(t, database, db, `grant select on orders, orders_id_seq`)
			guards := []ceiling.Guard{
				guard(t, plain, "orders", postgres.LockFence{}, "id"),
				guard(t, plain, "orders", postgres.TransactionID{}, "tx", "id"),
				guard(t, plain, "orders", postgres.Stamp{}, "at", "id"),
			}
			for _, g := range guards {
				_, err := g.Advance(t.Context(), plain.DB, nil)
				require.NoError(t, err)
			}
			db.MustExec(change)
			for _, g := range guards {
				var err error
				lab.WaitFor(t, func() bool {
					_, err = g.Advance(t.Context(), plain.DB, nil)
					return err != nil
				})
				require.ErrorIs(t, err, ceiling.ErrChanged, g.Report().Strategy)
			}
		})
	}
}

// A trigger that gives keys below the cursor is named once it exists, although no row shows it.
func TestLockFenceNamesANewTrigger(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(lab.Identity + `; insert into orders default values; insert into orders default values`)
	var out bytes.Buffer
	r := follow(t, db, "id")
	r.table.Logger = slog.New(slog.NewTextHandler(&out, nil))
	require.Equal(t, []string{"1", "2"}, r.next())
	db.MustExec(`create function low() returns trigger language plpgsql as $$ begin new.id := 0; return new; end $$;
		create trigger low before insert on orders for each row execute function low();
		insert into orders default values`)
	lab.WaitFor(t, func() bool {
		require.Empty(t, r.next())
		return strings.Contains(out.String(), `as long as the trigger low on orders leaves`)
	})
}
