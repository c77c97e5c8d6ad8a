package sqlsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// lineIDs returns the ids in the files, in order.
func lineIDs(t *testing.T, dir string) (ids []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl*"))
	require.NoError(t, err)
	slices.Sort(names)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			id, _, ok := strings.Cut(strings.TrimPrefix(line, `{"id":`), "}")
			require.True(t, ok, line)
			ids = append(ids, strings.SplitN(id, ",", 2)[0])
		}
	}
	return ids
}

// What breaks the assumptions of the lock fence is found, and delivered once: by a
// real pipeline, through restarts.
func TestAuditDelivers(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial, primary key (id)) partition by range (id)`)
	db.MustExec(`create table orders_1 partition of orders for values from (1000) to (2000)`)
	db.MustExec(`create table orders_2 partition of orders for values from (2000) to (1000000)`)
	db.MustExec(`select setval('orders_id_seq', 1999)`)
	db.MustExec(`insert into orders select from generate_series(1, 10)`)
	dir := t.TempDir()
	files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: "orders"})
	require.NoError(t, err)
	defer files.Close()

	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint(2000+i))
	}
	var a *audited
	var stop func() (time.Duration, error)
	begin := func() {
		a = newAudited(t, db, "orders", postgres.LockFence{}, "id")
		a.Audit.Deliver, a.Audit.Late, a.Logger = true, nil, slog.New(slog.DiscardHandler)
		stop = start(t, &poller.Poller[row.Row]{
			Name: t.Name(), Source: a.Table, Sink: files, Checkpointer: files, BatchSize: 3,
			Interval: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		})
	}
	// delivered waits until the files have the wanted ids.
	delivered := func(what string, more ...string) {
		t.Helper()
		want = append(want, more...)
		require.Eventually(t, func() bool { return len(lineIDs(t, dir)) >= len(want) }, patience, 5*time.Millisecond, what)
		require.ElementsMatch(t, want, lineIDs(t, dir), what)
	}
	begin()
	delivered("all rows")
	db.MustExec(`insert into orders values (1500)`)
	delivered("an explicit low id", "1500")

	var drawn int
	require.NoError(t, db.Get(&drawn, `select nextval('orders_id_seq')`))
	db.MustExec(`insert into orders default values`)
	delivered("the row after", "2011")
	db.MustExec(`insert into orders values ($1)`, drawn)
	delivered("an id drawn in an earlier transaction", fmt.Sprint(drawn))

	db.MustExec(`create table orders_0 (like orders including defaults)`)
	db.MustExec(`insert into orders_0 select generate_series(100, 109)`)
	db.MustExec(`alter table orders attach partition orders_0 for values from (0) to (1000)`)
	var attached []string
	for i := range 10 {
		attached = append(attached, fmt.Sprint(100+i))
	}
	delivered("a partition attached with rows in it", attached...)

	db.MustExec(`delete from orders where id < 2005`)
	db.MustExec(`insert into orders default values`)
	delivered("a row behind deleted ones", "2012")
	_, err = stop()
	require.NoError(t, err)

	// What appears while no process runs is not noticed by the next one; nothing
	// comes twice; what appears then is delivered.
	db.MustExec(`insert into orders values (1600)`)
	begin()
	db.MustExec(`insert into orders default values`)
	delivered("the row that is new", "2013")
	db.MustExec(`insert into orders values (1601)`)
	delivered("a late row after a restart", "1601")
	_, err = stop()
	require.NoError(t, err)
	require.ElementsMatch(t, want, lineIDs(t, dir))
}

// A late row that the sink refuses goes to the dead letters, the others beside it
// are written, each once.
func TestAuditRefusedLateRow(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key)`)
	db.MustExec(`insert into orders select 100 * i from generate_series(1, 20) i`)
	a := newAudited(t, db, "orders", ceiling.None{}, "id")
	a.Audit.Deliver, a.Audit.Late, a.Logger = true, nil, slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: "orders"})
	require.NoError(t, err)
	defer files.Close()
	var mu sync.Mutex
	var letters []string
	p := &poller.Poller[row.Row]{
		Name: t.Name(), Source: a.Table, Checkpointer: files, BatchSize: 16, Interval: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Sink: sink.Func[row.Row](func(ctx context.Context, b source.Batch[row.Row]) error {
			for _, r := range b.Records {
				if strings.HasSuffix(r.Text(0), "7") {
					return sink.Reject(errors.New("no sevens"))
				}
			}
			return files.Write(ctx, b)
		}),
		DeadLetter: sink.Func[poller.Rejected[row.Row]](func(_ context.Context, b source.Batch[poller.Rejected[row.Row]]) error {
			mu.Lock()
			defer mu.Unlock()
			letters = append(letters, b.Records[0].Record.Text(0))
			return nil
		}),
	}
	stop := start(t, p)
	require.Eventually(t, func() bool { return len(lineIDs(t, dir)) == 20 }, patience, 5*time.Millisecond)
	db.MustExec(`insert into orders select 1000 + i from generate_series(1, 30) i where i % 10 <> 0 union all select 2100 + i from generate_series(1, 30) i`)
	require.Eventually(t, func() bool { return len(lineIDs(t, dir)) >= 71 }, patience, 5*time.Millisecond)
	require.Eventually(t, func() bool { return p.Status().State == poller.Idle }, patience, 5*time.Millisecond)
	_, err = stop()
	require.NoError(t, err)
	ids := lineIDs(t, dir)
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), 71)
	slices.Sort(letters)
	require.Equal(t, []string{"1007", "1017", "1027", "2107", "2117", "2127"}, letters)
}

// A row that an update moves to a new key is none that is late, one that takes an
// old transaction's id is.
func TestAuditTransactionID(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key, note text, _tx xid8 not null default pg_current_xact_id())`)
	db.MustExec(`create index on orders (_tx, id)`)
	db.MustExec(`create function stamp() returns trigger language plpgsql as $$ begin new._tx := pg_current_xact_id(); return new; end $$`)
	db.MustExec(`create trigger stamp before insert or update on orders for each row execute function stamp()`)
	db.MustExec(`insert into orders select generate_series(1, 10), 'a'`)
	a := newAudited(t, db, "orders", postgres.TransactionID{}, "_tx", "id")
	a.Audit.Deliver = true
	settled := func(want ...string) {
		t.Helper()
		var got []string
		require.Eventually(t, func() bool { got = append(got, a.read(100)...); return len(got) >= len(want) }, patience, 5*time.Millisecond)
		require.ElementsMatch(t, want, got)
	}
	settled("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
	db.MustExec(`update orders set note = 'b' where id in (3, 4)`)
	settled("3", "4")
	db.MustExec(`insert into orders values (11, 'c')`)
	settled("11")
	require.Empty(t, a.late)
	db.MustExec(`alter table orders disable trigger stamp`)
	db.MustExec(`insert into orders select 12, 'd', _tx from orders where id = 5`)
	settled("12")
	require.Len(t, a.late, 1)
}

// A table whose writers keep to what the fence assumes has no late row, where a
// reader without it misses rows: their ids are drawn in one order and commit in
// the other.
func TestAuditOnce(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key)`)
	db.MustExec(`insert into orders select from generate_series(1, 100)`)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for ctx.Err() == nil {
				_, _ = db.ExecContext(ctx, `begin; insert into orders default values; select pg_sleep(0.1); commit`)
				_, _ = db.ExecContext(ctx, `insert into orders default values`)
			}
		})
	}
	defer writers.Wait()
	defer cancel()
	table := &sqlsource.Table{DB: database.Open(t, dbtest.PGX), Name: "orders", Key: []string{"id"}, Ceiling: postgres.LockFence{}}
	deadline := time.Now().Add(patience)
	for {
		r, err := sqlsource.Audit(t.Context(), table, sqlsource.AuditOptions{For: 500 * time.Millisecond, Interval: 5 * time.Millisecond, Behind: 10})
		require.NoError(t, err)
		require.Zero(t, r.Ceiling.Late, "%s", r)
		require.Equal(t, "lock-fence", r.Strategy)
		if r.Naive.Late > 0 && r.Ceiling.Rows > 0 {
			require.NotEmpty(t, r.Naive.Keys)
			require.Positive(t, r.Naive.Worst)
			require.Contains(t, r.String(), "The ceiling held, for the writers at work in this time, where a reader without one missed rows.")
			break
		}
		require.True(t, time.Now().Before(deadline), "%s", r)
	}

	// A writer that gives ids by hand is found, by both.
	cancel()
	writers.Wait()
	deadline = time.Now().Add(patience)
	done := make(chan sqlsource.AuditReport, 1)
	for next := 1_000_000; ; next += 1000 {
		db.MustExec(`select setval('orders_id_seq', $1)`, next)
		go func() {
			r, err := sqlsource.Audit(t.Context(), table, sqlsource.AuditOptions{For: 2 * time.Second, Interval: 5 * time.Millisecond})
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		var r sqlsource.AuditReport
		for i := 1; ; i++ {
			db.MustExec(`insert into orders default values`)
			db.MustExec(`select pg_sleep(0.3)`) // the first is on disk, and read, by then
			db.MustExec(`insert into orders select max(id) - 1 from orders on conflict do nothing`)
			select {
			case r = <-done:
			case <-time.After(20 * time.Millisecond):
				db.MustExec(`select nextval('orders_id_seq')`)
				continue
			}
			break
		}
		if r.Ceiling.Late > 0 {
			require.Contains(t, r.String(), "The ceiling did not hold")
			break
		}
		require.True(t, time.Now().Before(deadline), "%s", r)
	}
	// A row that was in flight at the beginning, below the last one, is of nobody's
	// account.
	tx := db.MustBegin()
	tx.MustExec(`insert into orders default values`)
	db.MustExec(`insert into orders default values`)
	table.DB = database.Open(t, dbtest.PGX)
	table.DB.SetMaxOpenConns(1)
	table.DB.MustExec(`set application_name = 'watched'`)
	go func() {
		r, err := sqlsource.Audit(t.Context(), table, sqlsource.AuditOptions{For: 2 * time.Second, Interval: 5 * time.Millisecond})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, db.Get(&n, `select count(*) from pg_stat_activity where application_name = 'watched' and query like '%FROM "orders" AS t%ORDER BY%' and query not like '%DESC%'`))
		return n > 0
	}, patience, 5*time.Millisecond)
	require.NoError(t, tx.Commit())
	require.Zero(t, (<-done).Ceiling.Late)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := sqlsource.Audit(gone, table, sqlsource.AuditOptions{})
	require.NoError(t, err)
	require.Zero(t, r.Ceiling.Rows)
	db.MustExec(`alter sequence orders_id_seq cache 50`)
	_, err = sqlsource.Audit(t.Context(), table, sqlsource.AuditOptions{For: time.Second})
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
}
