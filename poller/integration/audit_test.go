package integration

import (
	"bytes"
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

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// audited is a Table that is audited at each Fetch, and what that found.
type audited struct {
	*sqlsource.Table
	t     *testing.T
	log   bytes.Buffer
	late  [][]string
	last  sqlsource.Late
	after source.Cursor
}

func newAudited(t *testing.T, db *sqlx.DB, name string, c ceiling.Ceiling, key ...string) *audited {
	a := &audited{t: t}
	a.Table = &sqlsource.Table{DB: db, Name: name, Key: key, Ceiling: c, Logger: slog.New(slog.NewTextHandler(&a.log, nil))}
	a.Audit = &sqlsource.Auditor{Every: time.Nanosecond, Late: func(_ context.Context, l sqlsource.Late) {
		a.late, a.last = append(a.late, l.Keys...), l
	}}
	return a
}

// read fetches until there is nothing new, and returns the first columns.
func (a *audited) read(max int) (got []string) {
	a.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := a.Fetch(a.t.Context(), a.after, max)
		require.NoError(a.t, err)
		for _, r := range b.Records {
			got = append(got, r.Text(0))
		}
		if b.Held == nil && len(b.Records) == 0 && b.To == b.From {
			return got
		}
		if a.after = b.To; b.Held != nil {
			<-tick.C
		}
	}
}

// A late row is found, whatever the key is of, once, and read if that is wanted;
// rows that were handed out, or deleted, are not.
func TestAuditKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ, cut string // the type, and how a value is made of a number
	}{
		"bigint":    {"bigint", "%d"},
		"decimal":   {"decimal(10,2)", "%d.50"},
		"text":      {"varchar(20)", "'k%03d'"},
		"date":      {"date", "'2026-01-01'"},
		"timestamp": {"timestamp(6)", "'2026-01-01 00:00:%02d.123456'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
				typ := c.typ
				if typ == "timestamp(6)" && isMariaDB(driver) {
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
				for _, deliver := range []bool{false, true} {
					a := newAudited(t, db, "orders", ceiling.None{}, "a", "id")
					a.Audit.Deliver = deliver
					before := a.read(3)
					require.Empty(t, a.read(3))
					require.Empty(t, a.late)
					db.MustExec(`delete from orders where n = 20`)
					require.Empty(t, a.read(3))
					require.Empty(t, a.late, "a delete is no late row")
					at := 15
					if deliver {
						at = 16
					}
					insert(at)
					insert(30 + at)
					got := a.read(3)
					want := []string{fmt.Sprint(30 + at)}
					if deliver {
						want = []string{fmt.Sprint(at), fmt.Sprint(30 + at)}
					}
					require.ElementsMatch(t, want, got, "%v", before)
					require.Len(t, a.late, 1)
					require.Equal(t, fmt.Sprint(at), a.late[0][1])
					require.EqualValues(t, 1, a.last.Total)
					require.Positive(t, a.last.Behind)
					require.Contains(t, a.log.String(), `msg="late rows" table=orders rows=1 total=1`)
					require.Empty(t, a.read(3))
					require.Len(t, a.late, 1)

					// What was there when the process began is no late row.
					again := newAudited(t, db, "orders", ceiling.None{}, "a", "id")
					again.after, again.Audit.Deliver = a.after, deliver
					require.Empty(t, again.read(3))
					require.Empty(t, again.late)
					insert(at + 2)
					again.read(3)
					require.Len(t, again.late, 1)
				}
			})
		})
	}
}

// The sources keep their contract with an Auditor that looks at each Fetch.
func TestAuditContract(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, note varchar(100) not null)`)
		var want []order
		for i := range 12 {
			o := order{int64(i*i) + 1, fmt.Sprintf("note %d", i)}
			db.MustExec(fmt.Sprintf(`insert into orders values (%d, '%s')`, o.ID, o.Note))
			want = append(want, o)
		}
		for _, rows := range []int{0, 1, 4} {
			audit := &sqlsource.Auditor{Rows: rows, Every: time.Nanosecond, Deliver: true, Late: func(_ context.Context, l sqlsource.Late) {
				t.Errorf("late: %v", l.Keys)
			}}
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[order]{
				Open: func(context.Context) (source.Source[order], error) {
					return &sqlsource.Query[order]{DB: db, Select: "select id, note from orders", Key: []string{"id"}, Table: "orders",
						Ceiling: ceiling.None{}, Audit: audit}, nil
				},
				Expected: want,
			}))
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Row]{
				Open: func(context.Context) (source.Source[row.Row], error) {
					return &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}, Audit: audit}, nil
				},
				AtLeast: 12, Text: rowJSON,
			}))
		}
	})
}

// One cursor gives the same late rows again, in pieces too, also after the batch
// behind them was fetched. A batch that is fetched again has the late rows among
// its own, and they do not come twice.
func TestAuditRepeats(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	db.MustExec(`create table orders (id integer primary key)`)
	insert := func(ids ...int) {
		for _, id := range ids {
			db.MustExec(fmt.Sprintf(`insert into orders values (%d)`, id))
		}
	}
	insert(10, 20, 30, 40)
	a := newAudited(t, db, "orders", ceiling.None{}, "id")
	a.Audit.Deliver = true
	fetch := func(c source.Cursor, max int, more bool, want ...string) source.Cursor {
		t.Helper()
		b, err := a.Fetch(t.Context(), c, max)
		require.NoError(t, err)
		var got []string
		for _, r := range b.Records {
			got = append(got, r.Text(0))
		}
		require.Equal(t, want, got)
		require.Equal(t, more, b.More)
		require.Equal(t, len(want) > 0, b.To != b.From)
		return b.To
	}
	two := fetch("", 2, true, "10", "20")
	four := fetch(two, 2, false, "30", "40")
	require.Equal(t, four, fetch(four, 2, false))
	insert(11, 12, 13, 31)
	late := fetch(four, 3, true, "11", "12", "13")
	require.Equal(t, "orders after id = 40", a.Describe(late))
	all := fetch(late, 3, false, "31")
	require.Equal(t, late, fetch(four, 3, true, "11", "12", "13"))
	one := fetch(four, 1, true, "11")
	require.Equal(t, late, fetch(one, 2, true, "12", "13"))
	require.Equal(t, all, fetch(late, 9, false, "31"))
	insert(50)
	require.Equal(t, late, fetch(four, 3, true, "11", "12", "13"))
	five := fetch(all, 9, false, "50")
	require.Equal(t, all, fetch(late, 9, true, "31"), "the row behind them is there")
	require.Len(t, a.late, 4)

	// Back, further than the late row that waits.
	insert(45)
	require.Equal(t, five, fetch(all, 9, false, "45", "50"), "it came in time after all")
	require.Equal(t, five, fetch(five, 9, false))
	require.Len(t, a.late, 4)
	insert(46)
	fetch(five, 9, false, "46")
	require.Equal(t, five, fetch(all, 9, false, "45", "46", "50"), "it is handed out with the batch that is fetched again")
	require.Equal(t, five, fetch(five, 9, false), "and so it is not late any more")
	require.Len(t, a.late, 5)

	// A late row that was deleted, or both, is passed.
	insert(14, 15)
	fetch(five, 9, false, "14", "15")
	db.MustExec(`delete from orders where id = 14`)
	six := fetch(five, 9, false, "15")
	db.MustExec(`delete from orders where id = 15`)
	b, err := a.Fetch(t.Context(), five, 9)
	require.NoError(t, err)
	require.Empty(t, b.Records)
	require.Equal(t, six, b.To)
	require.Empty(t, fetch(six, 9, false)[:0])

	// A rewind reads everything once more, and begins anew.
	rewound, err := a.At(29)
	require.NoError(t, err)
	end := fetch(rewound, 9, false, "30", "31", "40", "45", "46", "50")
	require.Equal(t, end, fetch(end, 9, false))
	require.Len(t, a.late, 7)
}

// Late rows of several looks, which are not in the order of their keys, and batches
// that end before they have max rows.
func TestAuditSmallBatches(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	db.MustExec(`create table orders (id integer primary key)`)
	db.MustExec(`insert into orders values (100), (200)`)
	a := newAudited(t, db, "orders", ceiling.None{}, "id")
	a.Audit.Deliver, a.MaxBytes = true, 1
	require.Equal(t, []string{"100", "200"}, a.read(9))
	var want []string
	for round := range 3 {
		for i := range 3 {
			id := 200 - 10*round - 3 + i
			db.MustExec(fmt.Sprintf(`insert into orders values (%d)`, id))
			want = append(want, fmt.Sprint(id))
		}
		b, err := a.Fetch(t.Context(), a.after, 9)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		require.Equal(t, want[0], b.Records[0].Text(0))
		require.True(t, b.More)
	}
	require.Len(t, a.late, 9)
	require.Equal(t, want, a.read(9))
	a.MaxBytes = 1 << 20
	require.Empty(t, a.read(9))
}

// A late row waits until its commit is on the server's disk, as any other row.
func TestAuditAsynchronousCommit(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "synchronous_commit=off", "-c", "wal_writer_delay=1s", "-c", "wal_writer_flush_after=0"))
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key)`)
	a := newAudited(t, db, "orders", ceiling.None{}, "id")
	a.Audit.Deliver = true
	deadline := time.Now().Add(patience)
	for i, held := 1, false; !held; i++ {
		require.True(t, time.Now().Before(deadline), "each late row was on disk at once")
		db.MustExec(`insert into orders values ($1)`, 10*i)
		var got []string
		require.Eventually(t, func() bool { got = append(got, a.read(9)...); return len(got) > 0 }, patience, 5*time.Millisecond)
		db.MustExec(`insert into orders values ($1)`, 10*i-1)
		b, err := a.Fetch(t.Context(), a.after, 9)
		require.NoError(t, err)
		require.Len(t, a.late, i)
		held = len(b.Records) == 0
		a.after = b.To
		if held {
			require.NotNil(t, b.Held)
			require.Contains(t, b.Held.By[0], "asynchronous commit")
			require.Eventually(t, func() bool { return slices.Equal([]string{fmt.Sprint(10*i - 1)}, a.read(9)) }, patience, 5*time.Millisecond)
		}
	}
}

// The base line goes back as far as the memory does, and what appears below it is
// not found.
func TestAuditBaseLine(t *testing.T) {
	t.Parallel()
	for driver, db := range map[string]*sqlx.DB{
		"postgres": dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX),
		"mariadb":  dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL),
	} {
		db.MustExec(`create table orders (a int, id int, primary key (a, id))`)
		tens := `(select 0 as n union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9)`
		db.MustExec(`insert into orders select p.n, 1000 * q.n + 100 * r.n + 10 * s.n from ` + tens + ` p, ` + tens + ` q, ` + tens + ` r, ` + tens + ` s`)
		for rows, found := range map[int]bool{5000: true, 4998: false, 20000: true} {
			a := newAudited(t, db, "orders", ceiling.None{}, "a", "id")
			a.Audit.Rows = rows
			var err error
			a.after, err = a.At(9, 9990)
			require.NoError(t, err)
			require.Empty(t, a.read(100), driver)
			require.Empty(t, a.read(100), driver)
			require.Empty(t, a.late, driver)
			db.MustExec(`insert into orders values (5, 5)`) // above it are 4999 of the 5000
			db.MustExec(`insert into orders values (9, 5)`)
			a.read(100)
			want := [][]string{{"9", "5"}}
			if found {
				want = [][]string{{"5", "5"}, {"9", "5"}}
			}
			require.Equal(t, want, a.late, "%s with %d rows", driver, rows)
			db.MustExec(`delete from orders where id = 5`)
		}
	}
}

// More late rows than are remembered are all delivered, each once.
func TestAuditMany(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key)`)
	db.MustExec(`insert into orders select 100000 * i from generate_series(1, 3) i`)
	a := newAudited(t, db, "orders", ceiling.None{}, "id")
	a.Audit.Deliver, a.Audit.Rows = true, 100
	require.Len(t, a.read(100), 3)
	db.MustExec(`insert into orders select 100000 + i from generate_series(1, 15000) i`)
	db.MustExec(`insert into orders select 200000 + i from generate_series(1, 15000) i`)
	seen := map[string]int{}
	for _, id := range a.read(1000) {
		seen[id]++
	}
	require.Len(t, seen, 30000)
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
	require.EqualValues(t, 30000, a.last.Total)
}

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
		a = newAudited(t, db, "orders", ceiling.LockFence{}, "id")
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
		DeadLetter: sink.Func[poller.Refused[row.Row]](func(_ context.Context, b source.Batch[poller.Refused[row.Row]]) error {
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
	a := newAudited(t, db, "orders", ceiling.TransactionID{}, "_tx", "id")
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
	table := &sqlsource.Table{DB: database.Open(t, dbtest.PGX), Name: "orders", Key: []string{"id"}, Ceiling: ceiling.LockFence{}}
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
