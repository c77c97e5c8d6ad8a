package pglog_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A published table without changes does not pin the log of a busy database.
func TestIdleTablePinsLittle(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t; create table busy (v text); alter table busy alter v set storage external`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	var before, after string
	const confirmed = `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`
	require.NoError(t, db.Get(&before, confirmed, s.Slot))
	small, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	assert.Equal(t, at, small.To, "a little log moves nothing, so that nothing is saved")
	pinned := int64(0)
	for range 10 {
		db.MustExec(`insert into busy select repeat('x', 1000000) from generate_series(1, 20)`)
		b, err := lab.Fetch(t, s, at, 10)
		require.NoError(t, err)
		assert.Empty(t, b.Records)
		assert.NotEqual(t, at, b.To)
		pinned, at = max(pinned, b.Pinned), b.To
		s.Saved(at)
	}
	t.Logf("%d MB pinned", pinned>>20)
	assert.LessOrEqual(t, pinned>>20, int64(64), "MB of the log")
	require.NoError(t, s.Close())
	require.NoError(t, db.Get(&after, confirmed, s.Slot))
	assert.NotEqual(t, before, after)
}

// A copy that a crash has ended goes on in a later snapshot. The log delivers the changes of the rows
// that were copied before.
func TestCopyGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table items (id int primary key, n int not null default 0, body text default ''); insert into items select i from generate_series(1, 6) i; create publication p for table items`)
	s := open(t, db)
	b, err := lab.Fetch(t, s, "", 3)
	require.NoError(t, err)
	got := texts(t, b.Records)
	require.NoError(t, s.Close()) // the transaction is lost, as with the process
	db.MustExec(`update items set n = 1 where id in (1, 5); delete from items where id in (2, 6); insert into items values (7), (0)`)
	s = &pglog.Source{DB: db, Slot: s.Slot, Publication: "p"}
	rest, at := read(t, s, b.To, 2)
	assert.Equal(t, []string{"upsert public.items {1} {1, 0, } -", "upsert public.items {2} {2, 0, } -", "upsert public.items {3} {3, 0, } -"}, got)
	assert.Equal(t, []string{"upsert public.items {4} {4, 0, } -", "upsert public.items {5} {5, 1, } -", "upsert public.items {7} {7, 0, } -",
		"upsert public.items {1} {1, 1, } -", "upsert public.items {5} {5, 1, } -", "delete public.items {2} - {2}", "delete public.items {6} - {6}",
		"upsert public.items {7} {7, 0, } -", "upsert public.items {0} {0, 0, } -"}, texts(t, rest))
	db.MustExec(`insert into items values (8)`)
	rest, _ = read(t, s, at, 2)
	assert.Equal(t, []string{"insert public.items {8} {8, 0, } -"}, texts(t, rest), "after the copy each change comes once")
	require.NoError(t, s.Close())
}

func TestChangeThatIsTooLarge(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key, v text); create publication p for table t`)
	s := open(t, db)
	s.MaxRowBytes = 1000
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t values (1, 'a'), (2, repeat('secret', 1000)), (3, 'c')`)
	b, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	assert.Equal(t, []string{"insert public.t {1} {1, a} -"}, texts(t, b.Records))
	assert.True(t, b.More)
	for range 2 { // it can be repeated
		_, err = s.Fetch(t.Context(), b.To, 10)
		var bad *source.BadRecord
		require.ErrorAs(t, err, &bad)
		assert.NotContains(t, err.Error(), "secret")
		assert.True(t, strings.HasPrefix(bad.Key, "change 2 of transaction "), bad.Key)
		at = bad.To
	}
	got, _ := read(t, s, at, 10)
	assert.Equal(t, []string{"insert public.t {3} {3, c} -"}, texts(t, got))
}

// It works through a pooler that gives each transaction another session.
func TestPooler(t *testing.T) {
	t.Parallel()
	server := start(t)
	d := server.NewDatabase(t)
	direct := d.Open(t, dbtest.PGX)
	direct.MustExec(`create table t (id int primary key, v text); insert into t values (1, 'a'); create publication p for table t`)
	pooled := d.WithAddr(dbtest.StartPgBouncer(t, server, "transaction").Addr())
	for i, db := range []*sqlx.DB{pooled.Open(t, dbtest.PGX), pooled.Open(t, dbtest.PQ)} {
		s := open(t, db)
		got, at := read(t, s, "", 10)
		assert.Len(t, got, 1+i)
		direct.MustExec(`insert into t select count(*) + 1, 'b' from t`)
		got, _ = read(t, s, at, 10)
		assert.Len(t, got, 1)
		require.NoError(t, s.Close())
	}
}

// The limits of a role or database do not end the statement that reads the log, nor the pauses between two batches. Other
// clients of the pooler keep them.
func TestLimitsThroughPooler(t *testing.T) {
	t.Parallel()
	server := start(t)
	d := server.NewDatabase(t)
	direct, admin := d.Open(t, dbtest.PGX), server.Database("postgres").Open(t, dbtest.PGX)
	direct.MustExec(`create table t (id int primary key); create publication p for table t`)
	pooled := d.WithAddr(dbtest.StartPgBouncer(t, server, "transaction").Addr())
	writer := lab.Begin(t, direct)
	db, ended := stall(t, pooled, writer)
	s := open(t, db)
	s.SkipCopy = true
	direct.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.Slot)
	direct.MustExec(`insert into t values (1), (2), (3)`)
	limits := []string{"statement_timeout", "idle_in_transaction_session_timeout"}
	if version(t, admin) >= 17 {
		limits = append(limits, "transaction_timeout")
	}
	for _, name := range limits {
		admin.MustExec(`alter database ` + d.Name() + ` set ` + name + ` = '300ms'`) // for new sessions, which are those of the pooler
	}
	var got []row.Change
	var at source.Cursor
	take := func(n int) { // a limit may end another statement of a Fetch on a busy machine
		for len(got) < n && t.Context().Err() == nil {
			if b, err := s.Fetch(t.Context(), at, 1); err == nil {
				got, at = append(got, b.Records...), b.To
			}
		}
	}
	const older = ` and clock_timestamp() - greatest(query_start, state_change) > interval '400ms'`
	done := make(chan struct{})
	go func() { defer close(done); take(1) }()
	lab.WaitFor(t, func() bool { return ended.Load() || decoder(admin, d, `wait_event_type = 'Lock'`+older) != 0 })
	assert.False(t, ended.Load(), "the server decodes for longer than the limit")
	require.NoError(t, writer.Rollback())
	<-done
	lab.WaitFor(t, func() bool {
		return decoder(admin, d, `state = 'idle in transaction'`+older) != 0 || decoder(admin, d, `state <> 'idle'`) == 0
	})
	pid := decoder(admin, d, `state = 'idle in transaction'`)
	assert.NotZero(t, pid, "the result stays open for longer than the limit")
	take(3)
	assert.Equal(t, []string{"insert public.t {1} {1} -", "insert public.t {2} {2} -", "insert public.t {3} {3} -"}, texts(t, got))
	require.NoError(t, s.Close())
	other, seen := pooled.Open(t, dbtest.PGX), map[int]bool{}
	for range 8 { // each session of the pooler in turn
		var in int
		var values []byte
		require.NoError(t, other.QueryRow(`select pg_backend_pid(), string_agg(distinct setting, ' ') from pg_settings where name = any ($1)`, pgx.QueryExecModeExec, limits).Scan(&in, &values))
		seen[in] = true
		assert.Equal(t, "300", string(values))
	}
	assert.True(t, seen[pid], "also the one that read the log")
}
