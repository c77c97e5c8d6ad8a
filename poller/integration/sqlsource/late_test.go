package sqlsource

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// watched is a Table that is checked for late rows at each Fetch, with the rows that were
// found.
type watched struct {
	*sqlsource.Table
	source *late.Source[row.Row]
	t      *testing.T
	log    bytes.Buffer
	late   []string
	after  source.Cursor
}

func newWatched(t *testing.T, db *sqlx.DB, c ceiling.Ceiling, key ...string) *watched {
	w := &watched{t: t, Table: &sqlsource.Table{DB: db, Name: "orders", Key: key, Ceiling: c, Logger: slog.New(slog.DiscardHandler)}}
	w.source = &late.Source[row.Row]{Table: w.Table, Every: 1, Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Report: func(_ context.Context, f late.Found) {
		require.Len(t, f.Keys, f.Rows)
		for _, k := range f.Keys {
			w.late = append(w.late, w.Position(k))
		}
	}}
	return w
}

// read fetches until nothing more is available, and returns the first columns.
func (w *watched) read(max int) (got []string) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := w.source.Fetch(w.t.Context(), w.after, max)
		require.NoError(w.t, err)
		for _, r := range b.Records {
			got = append(got, r.Text(0))
		}
		if b.Held == nil && len(b.Records) == 0 && b.To == b.From {
			return got
		}
		if w.after = b.To; b.Held != nil {
			<-tick.C
		}
	}
}

// A late row is reported once, whatever the type of the key. Rows that were read or deleted
// are not reported.
func TestLateKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ, cut string // the type, and an expression that converts a number to a value
	}{
		"bigint":    {"bigint", "%d"},
		"decimal":   {"decimal(10,2)", "%d.50"},
		"text":      {"varchar(20)", "'k%03d'"},
		"date":      {"date", "'2026-01-01'"},
		"timestamp": {"timestamp(6)", "'2026-01-01 00:00:%02d.123456'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
				typ := c.typ
				if typ == "timestamp(6)" && lab.IsMariaDB(driver) {
					typ = "datetime(6)"
				}
				db.MustExec(fmt.Sprintf(`create table orders (n int, a %s not null, id bigint not null, primary key (a, id))`, typ))
				insert := func(n int) {
					cut := c.cut
					if strings.Contains(cut, "%") {
						cut = fmt.Sprintf(cut, n)
					}
					db.MustExec(fmt.Sprintf(`insert into orders values (%d, %s, %d)`, n, cut, n))
				}
				for _, n := range []int{10, 20, 30, 40} {
					insert(n)
				}
				w := newWatched(t, db, ceiling.None{}, "a", "id")
				require.Equal(t, []string{"10", "20", "30", "40"}, w.read(3))
				require.Empty(t, w.late)
				db.MustExec(`delete from orders where n = 20`)
				require.Empty(t, w.read(3))
				require.Empty(t, w.late, "a deleted row is not late")
				insert(15)
				insert(45)
				require.Equal(t, []string{"45"}, w.read(3), "no late row is delivered")
				require.Len(t, w.late, 1)
				require.True(t, strings.HasSuffix(w.late[0], ", id 15"), w.late[0])
				require.Contains(t, w.log.String(), `msg="late rows" rows=1 total=1 first="a `)
				require.Empty(t, w.read(3))
				require.Equal(t, late.Reading{Rows: 5, Late: 1, Keys: w.late}, w.source.Reading())

				// Keys between two cursors, also of one row and of no row.
				all, err := w.Keys(t.Context(), "", "", 10)
				require.NoError(t, err)
				require.Len(t, all, 5)
				three, err := w.Keys(t.Context(), all[0], all[3], 10)
				require.NoError(t, err)
				require.Equal(t, all[1:4], three)
				two, err := w.Keys(t.Context(), all[0], all[3], 2)
				require.NoError(t, err)
				require.Equal(t, all[1:3], two)
				none, err := w.Keys(t.Context(), all[3], all[3], 2)
				require.NoError(t, err)
				require.Empty(t, none)
				same, err := w.Adopt(w.after)
				require.NoError(t, err)
				require.Equal(t, all[4], same)
				first, err := w.At()
				require.NoError(t, err)
				none, err = w.Keys(t.Context(), "", first, 2)
				require.NoError(t, err)
				require.Empty(t, none)
				_, err = w.Keys(t.Context(), "", "", 0)
				require.ErrorContains(t, err, "a limit of 0")
			})
		})
	}
}

// A Source that checks at each Fetch fulfils the contract of sources.
func TestLateContract(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, note varchar(100) not null)`)
		var want []order
		for i := range 12 {
			o := order{int64(i*i) + 1, fmt.Sprintf("note %d", i)}
			db.MustExec(fmt.Sprintf(`insert into orders values (%d, '%s')`, o.ID, o.Note))
			want = append(want, o)
		}
		for _, rows := range []int{0, 4} {
			none := func(_ context.Context, f late.Found) { t.Errorf("late: %v", f) }
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[order]{
				Open: func(context.Context) (source.Source[order], error) {
					return &late.Source[order]{Rows: rows, Every: 1, Report: none, Table: &sqlsource.Query[order]{
						DB: db, Select: "select id, note from orders", Key: []string{"id"}, Table: "orders", Ceiling: ceiling.None{}}}, nil
				},
				Expected: want,
			}))
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Row]{
				Open: func(context.Context) (source.Source[row.Row], error) {
					return &late.Source[row.Row]{Rows: rows, Every: 1, Report: none,
						Table: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}}}, nil
				},
				AtLeast: 12, Text: lab.RowJSON,
			}))
		}
	})
}

// Rows that break the assumptions of the lock fence are reported, also after a rewind.
func TestLateBehindTheLockFence(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial, primary key (id)) partition by range (id)`)
	db.MustExec(`create table orders_1 partition of orders for values from (1000) to (2000)`)
	db.MustExec(`create table orders_2 partition of orders for values from (2000) to (1000000)`)
	db.MustExec(`select setval('orders_id_seq', 999)`)
	db.MustExec(`insert into orders select from generate_series(1, 10)`)
	db.MustExec(`select setval('orders_id_seq', 1999)`)
	db.MustExec(`insert into orders select from generate_series(1, 10)`)
	w := newWatched(t, db, postgres.LockFence{}, "id")
	begin, err := w.At(0)
	require.NoError(t, err)
	w.after = begin
	settled := func(n int) {
		t.Helper()
		got := 0
		require.Eventually(t, func() bool { got += len(w.read(3)); return got >= n }, lab.WaitLimit, 5*time.Millisecond)
		require.Equal(t, n, got)
	}
	settled(20)
	db.MustExec(`insert into orders values (1500)`)
	require.Empty(t, w.read(3))
	require.Equal(t, []string{"id 1500"}, w.late, "an explicit low id")

	var drawn int
	require.NoError(t, db.Get(&drawn, `select nextval('orders_id_seq')`))
	db.MustExec(`insert into orders default values`)
	settled(1)
	db.MustExec(`insert into orders values ($1)`, drawn)
	require.Empty(t, w.read(3))
	require.Equal(t, fmt.Sprint("id ", drawn), w.late[1], "an id drawn in an earlier transaction")

	db.MustExec(`create table orders_0 (like orders including defaults)`)
	db.MustExec(`insert into orders_0 select generate_series(100, 109)`)
	db.MustExec(`alter table orders attach partition orders_0 for values from (0) to (1000)`)
	require.Empty(t, w.read(3))
	require.Len(t, w.late, 12, "a partition attached with rows in it")

	w.after = begin
	settled(33)
	db.MustExec(`delete from orders where id < 1005`)
	db.MustExec(`insert into orders values (50)`)
	require.Empty(t, w.read(3))
	require.Len(t, w.late, 13, "a row below deleted ones")
}

// A row that an update moves to a new key is not late. A row that gets the id of an old
// transaction is late.
func TestLateTransactionID(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key, note text, _tx xid8 not null default pg_current_xact_id())`)
	db.MustExec(`create index on orders (_tx, id)`)
	db.MustExec(`create function stamp() returns trigger language plpgsql as $$ begin new._tx := pg_current_xact_id(); return new; end $$`)
	db.MustExec(`create trigger stamp before insert or update on orders for each row execute function stamp()`)
	db.MustExec(`insert into orders select generate_series(1, 10), 'a'`)
	w := newWatched(t, db, postgres.TransactionID{}, "_tx", "id")
	settled := func(want ...string) {
		t.Helper()
		var got []string
		require.Eventually(t, func() bool { got = append(got, w.read(100)...); return len(got) >= len(want) }, lab.WaitLimit, 5*time.Millisecond)
		require.ElementsMatch(t, want, got)
	}
	settled("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
	db.MustExec(`update orders set note = 'b' where id in (3, 4)`)
	settled("3", "4")
	require.Empty(t, w.late)
	db.MustExec(`alter table orders disable trigger stamp`)
	db.MustExec(`insert into orders select 12, 'd', _tx from orders where id = 5`)
	require.Empty(t, w.read(100))
	require.Len(t, w.late, 1)
}

// If the writers keep the assumptions of the fence, no row is late, while a reader without
// it misses rows: their ids are drawn in one order and committed in another.
func TestLateAudit(t *testing.T) {
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
	deadline := time.Now().Add(lab.WaitLimit)
	for {
		r, err := late.Audit(t.Context(), table, late.Options{For: 500 * time.Millisecond, Interval: 5 * time.Millisecond})
		require.NoError(t, err)
		require.Zero(t, r.Below.Late, "%s", r)
		require.Equal(t, "lock-fence", r.Ceiling)
		require.NotEmpty(t, r.Guarantee)
		if len(r.Naive.Keys) > 0 && r.Below.Rows > 0 { // a late row may be counted and not named
			require.Contains(t, r.String(), "The ceiling held")
			break
		}
		require.True(t, time.Now().Before(deadline), "%s", r)
	}

	// A writer that sets explicit ids is detected.
	cancel()
	writers.Wait()
	deadline = time.Now().Add(lab.WaitLimit)
	done := make(chan late.Report, 1)
	for next := 1_000_000; ; next += 1000 {
		db.MustExec(`select setval('orders_id_seq', $1)`, next)
		go func() {
			r, err := late.Audit(t.Context(), table, late.Options{For: 2 * time.Second, Interval: 5 * time.Millisecond})
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		var r late.Report
		for running := true; running; {
			db.MustExec(`insert into orders default values`)
			db.MustExec(`select pg_sleep(0.3)`) // by then the first row is on disk and was read
			db.MustExec(`insert into orders select max(id) - 1 from orders on conflict do nothing`)
			select {
			case r = <-done:
				running = false
			case <-time.After(20 * time.Millisecond):
				db.MustExec(`select nextval('orders_id_seq')`)
			}
		}
		if r.Below.Late > 0 {
			require.Contains(t, r.String(), "The ceiling did not hold")
			break
		}
		require.True(t, time.Now().Before(deadline), "%s", r)
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := late.Audit(gone, table, late.Options{})
	require.ErrorIs(t, err, context.Canceled, "it did not begin")
	db.MustExec(`alter sequence orders_id_seq cache 50`)
	_, err = late.Audit(t.Context(), table, late.Options{For: time.Second})
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
}

// BenchmarkLateCheck measures one check of 100,000 keys, which an idle pipeline makes every
// half minute.
func BenchmarkLateCheck(b *testing.B) {
	db := dbtest.Postgres(b).NewDatabase(b).Open(b, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key)`)
	db.MustExec(`insert into orders select i from generate_series(1, 100000) i`)
	db.MustExec(`vacuum analyze orders`)
	orders := &late.Source[row.Row]{Every: 1, Table: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}, Logger: slog.New(slog.DiscardHandler)}}
	var c source.Cursor
	for more := true; more; {
		batch, err := orders.Fetch(context.Background(), c, 5000)
		require.NoError(b, err)
		c, more = batch.To, batch.More
	}
	for b.Loop() {
		for range 5 { // each Fetch checks about 20,000 keys
			_, err := orders.Fetch(context.Background(), c, 5000)
			require.NoError(b, err)
		}
	}
}
