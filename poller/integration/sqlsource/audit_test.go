package sqlsource

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
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
