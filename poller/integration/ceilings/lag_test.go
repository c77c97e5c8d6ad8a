package ceilings

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func lagging(db *sqlx.DB, name string, by time.Duration, key ...string) *sqlsource.Table {
	table := lab.Silent(db, name, key...)
	table.Ceiling = ceiling.Lag{By: by}
	return table
}

// If the key begins with a time, a row is read when that time is old enough by the
// database's clock, to the microsecond and in every time zone.
func TestLagByTheClock(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		types, ago, zone := []string{"timestamptz", "timestamp", "moment"}, "statement_timestamp() - interval '%d s'", `set timezone = 'Asia/Kathmandu'` // a zone without daylight saving time
		switch {
		case lab.IsMariaDB(driver):
			types, zone = []string{"datetime(6)", "timestamp(6)"}, "" // sqlsource requires UTC for timestamp
			ago = "now(6) - interval %d second"
		case !lab.IsPostgres(driver):
			return // SQLite has no types for times
		}
		if lab.IsPostgres(driver) {
			db.MustExec(`create domain moment as timestamptz(6)`)
		}
		for _, typ := range types {
			for _, zone := range []string{"", zone} {
				db.SetMaxOpenConns(1) // the time zone is a setting of the connection
				if zone != "" {
					db.MustExec(zone)
				}
				db.MustExec(`drop table if exists t`)
				db.MustExec(`create table t (at ` + typ + ` not null, id int not null, primary key (at, id))`)
				db.MustExec(fmt.Sprintf(`insert into t values (`+ago+`, 1), (`+ago+`, 2), (`+ago+`, 3)`, 7200, 3700, 3500))
				table := lagging(db, "t", time.Hour, "at", "id")
				b, err := lab.Fetch(t, table, "", 10)
				require.NoError(t, err)
				require.Len(t, b.Records, 2, "%s %s", typ, zone)
				require.Nil(t, b.Held)
				require.True(t, b.AsOf.IsZero())
				got, _ := lab.ReadAll(t, lagging(db, "t", time.Microsecond, "at", "id"), "", 10, lab.RowJSON)
				require.Len(t, got, 3)
				got, _ = lab.ReadAll(t, lagging(db, "t", time.Hour, "at", "id"), b.To, 10, lab.RowJSON)
				require.Empty(t, got)
			}
		}
		db.MustExec(`drop table t`)
		db.MustExec(`create table t (at date not null, id int not null, primary key (at, id))`)
		days := `insert into t values (current_date - interval '2 days', 1), (current_date, 2)`
		if lab.IsMariaDB(driver) {
			days = `insert into t values (current_date - interval 2 day, 1), (current_date, 2)`
		}
		db.MustExec(days)
		// One hour, so that the expected value does not change if the test runs at
		// midnight.
		got, _ := lab.ReadAll(t, lagging(db, "t", time.Hour, "at", "id"), "", 10, func(r row.Row) string { return r.Text(1) })
		require.Equal(t, []string{"1"}, got, "the day is not over")
	})
}

// The greatest integer is found by value and not by text: 235 is greater than 99.
func TestLagOfIntegers(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id bigint not null primary key)`)
		for i := range 235 {
			db.MustExec(fmt.Sprintf(`insert into t values (%d)`, i+1))
		}
		table := lagging(db, "t", time.Nanosecond, "id")
		_, err := lab.Fetch(t, table, "", 1) // records the greatest key
		require.NoError(t, err)
		got, _ := lab.ReadAll(t, table, "", 100, lab.RowJSON)
		require.Len(t, got, 235)
	})
}

// With another kind of key, rows are read up to the greatest key that was seen long enough
// ago.
func TestLagByObservedKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		keys := []string{"bigint", "decimal(30,3)", "varchar(40)"}
		switch {
		case lab.IsPostgres(driver):
			keys = append(keys, "bytea")
		case lab.IsMariaDB(driver):
			keys = append(keys, "bigint unsigned", "varbinary(40)")
		default:
			keys = append(keys, "datetime", "blob", "")
		}
		for i, typ := range keys {
			name := fmt.Sprint("t", i)
			db.MustExec(`create table ` + name + ` (k ` + typ + ` not null, b varchar(40) not null, n int, primary key (k, b))`)
			db.MustExec(`insert into ` + name + ` values ('9007199254740992', 'a', 1), ('9007199254740993', 'b', 2)`)
			long, short := lagging(db, name, time.Hour, "k", "b"), lagging(db, name, 300*time.Millisecond, "k", "b")
			number := func(r row.Row) string { return r.Text(2) }
			b, err := short.Fetch(t.Context(), "", 10)
			require.NoError(t, err)
			require.Empty(t, b.Records)
			require.Contains(t, b.Held.By[0], "lag=300ms, which reads the existing rows 300ms after the start")
			require.True(t, b.AsOf.IsZero())
			db.MustExec(`insert into ` + name + ` values ('9007199254740993', 'c', 3), ('9007199254740994', 'a', 4)`)
			var got []string
			var after source.Cursor
			require.Eventually(t, func() bool {
				var more []string
				more, after = lab.ReadAll(t, short, after, 10, number)
				got = append(got, more...)
				return len(got) > 0
			}, lab.WaitLimit, 5*time.Millisecond)
			if len(got) < 4 { // keys seen first are delivered first, and no greater ones
				require.Equal(t, []string{"1", "2"}, got, typ)
			}
			require.Eventually(t, func() bool {
				var more []string
				more, after = lab.ReadAll(t, short, after, 1, number)
				got = append(got, more...)
				return len(got) >= 4
			}, lab.WaitLimit, 5*time.Millisecond)
			require.Equal(t, []string{"1", "2", "3", "4"}, got, typ)
			b, err = short.Fetch(t.Context(), after, 10)
			require.NoError(t, err)
			require.Nil(t, b.Held)
			db.MustExec(`insert into ` + name + ` values ('9007199254740995', 'a', 5)`)
			b, err = short.Fetch(t.Context(), after, 10)
			require.NoError(t, err)
			require.Nil(t, b.Held, "the wait for younger rows is intended")
			b, err = long.Fetch(t.Context(), "", 10)
			require.NoError(t, err)
			require.Empty(t, b.Records)
			b, err = lagging(db, name, time.Hour, "k", "b").Fetch(t.Context(), greatest(t, db, name, "k", "b"), 10)
			require.NoError(t, err)
			require.Nil(t, b.Held, "nothing is after the cursor")
		}
	})
}

func TestLagIsValidated(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	db.MustExec(`create table t (k text primary key)`)
	for _, by := range []time.Duration{0, -1} {
		require.Contains(t, fmt.Sprint(unsafeIn(t, lagging(db, "t", by, "k"))), "By is")
	}
}

// Lag reads the greatest key through the source: a Query needs no Table for it, and rows that a
// condition leaves out move nothing. A source that starts empty, or becomes empty, reads nothing.
func TestLagOfASelect(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (k bigint not null, kind varchar(10) not null, b varchar(10) not null, primary key (k, b))`)
		table := lagging(db, "t", time.Nanosecond, "k", "b")
		table.Where = "t.kind = 'x'"
		type pair struct {
			K int64
			B string
		}
		pairs := &sqlsource.Query[pair]{DB: db, Select: "select k, b from t where kind = 'x'", Key: table.Key, Ceiling: table.Ceiling, Logger: table.Logger}
		long := lagging(db, "t", time.Hour, "k", "b")
		reads := func(want int) { // the first Fetch notes the greatest key
			for range 2 {
				b, err := long.Fetch(t.Context(), "", 10)
				require.NoError(t, err)
				require.Empty(t, b.Records)
				require.Equal(t, want > 0, b.Held != nil)
			}
			_, err := lab.Fetch(t, table, "", 10)
			require.NoError(t, err)
			a, err := lab.Fetch(t, table, "", 10)
			require.NoError(t, err)
			require.Len(t, a.Records, want)
			_, err = lab.Fetch(t, pairs, "", 10)
			require.NoError(t, err)
			b, err := lab.Fetch(t, pairs, "", 10)
			require.NoError(t, err)
			require.Len(t, b.Records, want)
		}
		reads(0)
		db.MustExec(`insert into t values (5, 'x', 'a'), (5, 'x', 'b'), (99, 'y', 'a')`)
		reads(2)
		db.MustExec(`insert into t values (5, 'x', 'c'), (7, 'x', 'a'), (100, 'y', 'a')`)
		reads(4)
		c, err := pairs.Check(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 4, c.Pending)
		require.Equal(t, "k = 7, b = \"a\"", c.Newest)
		db.MustExec(`delete from t`)
		reads(0)
		db.MustExec(`insert into t values (1, 'x', 'a')`)
		reads(1)
	})
}

// A row whose key is NULL is an error. Check finds it, and the greatest key next to it.
func TestLagOfNull(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (k bigint, n int)`)
		db.MustExec(`create index by_k on t (k)`)
		db.MustExec(`insert into t values (7, 1), (null, 2)`)
		for _, c := range []ceiling.Ceiling{ceiling.None{}, ceiling.Lag{By: time.Hour}} {
			table := lab.Silent(db, "t", "k")
			table.Ceiling = c
			_, err := table.Fetch(t.Context(), "", 10)
			lab.RequirePermanent(t, err, `"k" is NULL in a row`)
			found, err := table.Check(t.Context(), "")
			require.NoError(t, err)
			require.False(t, found.Safe())
			require.Contains(t, found.String(), `"k" is NULL in a row`)
			require.Contains(t, []string{"", "k = 7"}, found.Newest) // not read where the plan has no index
		}
	})
}

// greatest returns the cursor after the last row.
func greatest(t *testing.T, db *sqlx.DB, name string, key ...string) source.Cursor {
	table := lab.Silent(db, name, key...)
	table.Ceiling = ceiling.None{}
	_, at := lab.ReadAll(t, table, "", 10, lab.RowJSON)
	return at
}

// Drain waits until the rows that exist at the start are old enough, and not for younger ones.
func TestLagAndDrain(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	db.MustExec(`create table t (k text primary key not null)`)
	db.MustExec(`insert into t values ('a')`)
	n := 0
	drain := func(by time.Duration) error {
		p := &poller.Poller[row.Row]{
			Name: "lag", Source: lagging(db, "t", by, "k"), Checkpointer: new(pollertest.Checkpointer), DrainWait: 100 * time.Millisecond,
			Sink: sink.Func[row.Row](func(_ context.Context, b source.Batch[row.Row]) error { n += len(b.Records); return nil }),
		}
		return p.Drain(t.Context())
	}
	require.ErrorIs(t, drain(time.Hour), poller.ErrHeld)
	require.Zero(t, n)
	require.NoError(t, drain(time.Millisecond))
	require.Equal(t, 1, n)
}

// With a key that does not ascend, the guarantee and a warning say which rows are missed.
func TestLagOfRandomKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		typ := "varchar(36)"
		if lab.IsPostgres(driver) {
			typ = "uuid"
		}
		db.MustExec(`create table t (id ` + typ + ` not null primary key)`)
		db.MustExec(`insert into t values ('b0000000-0000-4000-8000-000000000000')`)
		table := lagging(db, "t", time.Nanosecond, "id")
		_, err := lab.Fetch(t, table, "", 10)
		require.NoError(t, err)
		b, err := lab.Fetch(t, table, "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		db.MustExec(`insert into t values ('a0000000-0000-4000-8000-000000000000')`)
		missed, _ := lab.ReadAll(t, table, b.To, 10, lab.RowJSON)
		require.Empty(t, missed)

		c, err := table.Check(t.Context(), b.To)
		require.NoError(t, err)
		require.True(t, b.Guarantee.Lossy)
		require.Equal(t, b.Guarantee.Text, c.Report.Guarantee)
		require.Contains(t, b.Guarantee.Text, "a row that is committed later with a key below the cursor is missed")
		require.Contains(t, c.String(), "LOSSY. Rows can be missed with the ceiling lag=1ns")
		require.Regexp(t, `(?s)\nwarning  nobody checks that the key.*most new\s+rows\s+have\s+a\s+key\s+below\s+the\s+cursor.*-> use a key that ascends`, c.String())
		table.Ceiling = nil
		c, err = table.Check(t.Context(), b.To)
		require.NoError(t, err)
		require.NotContains(t, c.String(), "choose the ceiling lag", "a lossy ceiling is not offered")
	})
}
