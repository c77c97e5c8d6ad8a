package sqlsource

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func TestSQLSourceMaxBytes(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v text not null)`)
		var want []string
		for i := 1; i <= 60; i++ {
			size := 10
			if i%10 == 0 {
				size = 5000 + i
			}
			db.MustExec(fmt.Sprintf(`insert into t (v) values ('%s')`, strings.Repeat("x", size)))
			want = append(want, fmt.Sprint(i, " ", size))
		}
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, MaxBytes: 600}
		query := &sqlsource.Query[struct {
			ID int
			V  string
		}]{DB: db, Select: "select * from t", Key: []string{"id"}, Table: "t", MaxBytes: 600}

		var got []string
		b, err := lab.Fetch(t, table, "", 1000)
		for ; err == nil && len(b.Records) > 0; b, err = lab.Fetch(t, table, b.To, 1000) {
			if len(b.Records) > 1 {
				require.LessOrEqual(t, b.Bytes, 600)
			}
			for _, r := range b.Records {
				got = append(got, fmt.Sprint(r.Text(0), " ", len(r.Text(1))))
			}
			require.Equal(t, len(got) < 60, b.More)
		}
		require.NoError(t, err)
		require.Equal(t, want, got)

		got = nil
		q, err := lab.Fetch(t, query, "", 1000)
		for ; err == nil && len(q.Records) > 0; q, err = lab.Fetch(t, query, q.To, 1000) {
			if len(q.Records) > 1 {
				require.LessOrEqual(t, q.Bytes, 600)
			}
			for _, r := range q.Records {
				got = append(got, fmt.Sprint(r.ID, " ", len(r.V)))
			}
		}
		require.NoError(t, err)
		require.Equal(t, want, got)

		small := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, MaxRowBytes: 5000}
		b, err = lab.Fetch(t, small, "", 1000)
		require.NoError(t, err)
		require.Len(t, b.Records, 9)
		require.True(t, b.More)
		_, err = lab.Fetch(t, small, b.To, 1000)
		lab.RequirePermanent(t, err, "id 10", "MaxRowBytes")
		var bad *source.BadRecord
		require.ErrorAs(t, err, &bad)
	})
}

func TestSQLSourceStart(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (a int not null, b varchar(5) not null, primary key (a, b))`)
		latest := &sqlsource.Table{DB: db, Name: "t", Key: []string{"a", "b"}, Ceiling: ceiling.None{}, Start: sqlsource.Latest}
		text := func(r row.Row) string { return r.Text(0) + r.Text(1) }

		// In an empty table, Latest starts before every later row.
		empty, err := lab.Fetch(t, latest, "", 10)
		require.NoError(t, err)
		require.Empty(t, empty.Records)
		require.NotEmpty(t, empty.To)
		idle, err := lab.Fetch(t, latest, empty.To, 10)
		require.NoError(t, err)
		require.Equal(t, empty.To, idle.To)

		db.MustExec(`insert into t values (1, 'x'), (1, 'y'), (2, 'a')`)
		got, _ := lab.ReadAll(t, latest, empty.To, 10, text)
		require.Equal(t, []string{"1x", "1y", "2a"}, got)

		behind, err := lab.Fetch(t, latest, "", 10)
		require.NoError(t, err)
		require.Empty(t, behind.Records)
		require.Equal(t, "t after a = 2, b = \"a\"", latest.Describe(behind.To))
		db.MustExec(`insert into t values (2, 'b')`)
		got, _ = lab.ReadAll(t, latest, behind.To, 10, text)
		require.Equal(t, []string{"2b"}, got)

		from := &sqlsource.Table{DB: db, Name: "t", Key: []string{"a", "b"}, Ceiling: ceiling.None{}}
		from.Start, err = from.At(1, "x")
		require.NoError(t, err)
		got, _ = lab.ReadAll(t, from, "", 2, text)
		require.Equal(t, []string{"1y", "2a", "2b"}, got)
		end, err := from.At(9, "")
		require.NoError(t, err)
		from = &sqlsource.Table{DB: db, Name: "t", Key: []string{"a", "b"}, Ceiling: ceiling.None{}, Start: end}
		none, err := lab.Fetch(t, from, "", 2)
		require.NoError(t, err)
		require.Empty(t, none.Records)
		require.Equal(t, end, none.To)
	})
}

// At accepts times if the database has a type for them.
func TestSQLSourceAtTime(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		typ := map[bool]string{true: "timestamptz", false: "timestamp(6)"}[lab.IsPostgres(driver)]
		db.MustExec(`create table t (at ` + typ + ` not null primary key)`)
		db.MustExec(`insert into t values ('2026-01-31 10:00:00.5'), ('2026-01-31 10:00:00.500001')`)
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"at"}, Ceiling: ceiling.None{}}
		at, err := table.At(time.Date(2026, 1, 31, 12, 0, 0, 500_000_000, time.FixedZone("", 7200)))
		require.NoError(t, err)
		b, err := lab.Fetch(t, table, at, 10)
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			lab.RequirePermanent(t, err, "SQLite has no type for times")
			return
		}
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
	})
}

// The statement reads through the index only as many rows as it returns, however many rows
// precede or follow them.
func TestSQLSourceUsesIndex(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		const rows = 20_000
		db.SetMaxOpenConns(1) // the counters belong to the connection
		switch {
		case lab.IsPostgres(driver):
			// The counters include all sessions, and autovacuum reads the whole table.
			db.MustExec(`create table t (a int not null, b int not null, v text, primary key (a, b)) with (autovacuum_enabled = off)`)
			db.MustExec(fmt.Sprintf(`insert into t select n / 5000, n, 'x' from generate_series(1, %d) n`, rows))
			db.MustExec(`analyze t`)
		case lab.IsMariaDB(driver):
			db.MustExec(`create table t (a int not null, b int not null, v text, primary key (a, b))`)
			db.MustExec(fmt.Sprintf(`insert into t select seq div 5000, seq, 'x' from seq_1_to_%d`, rows))
			db.MustExec(`analyze table t`)
		default:
			db.MustExec(`create table t (a int not null, b int not null, v text, primary key (a, b))`)
			db.MustExec(fmt.Sprintf(`with recursive s(n) as (select 1 union all select n + 1 from s where n < %d) insert into t select n / 5000, n, 'x' from s`, rows))
		}
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"a", "b"}, Ceiling: ceiling.None{}}
		query := &sqlsource.Query[struct {
			A, B int
			V    string
		}]{DB: db, Select: "select v, b, a from t where v <> 'y'", Key: []string{"a", "b"}, Table: "t", Ceiling: ceiling.None{}}
		unindexed := &sqlsource.Table{DB: db, Name: "t", Key: []string{"b"}, Ceiling: ceiling.None{}}
		after, err := table.At(2, 12_400)
		require.NoError(t, err)
		afterQ, err := query.At(2, 12_400)
		require.NoError(t, err)
		afterU, err := unindexed.At(12_400)
		require.NoError(t, err)

		fetchTable := func() {
			b, err := lab.Fetch(t, table, after, 100)
			require.NoError(t, err)
			require.Len(t, b.Records, 100)
			require.Equal(t, "12401", b.Records[0].Text(1))
		}
		fetchQuery := func() {
			b, err := lab.Fetch(t, query, afterQ, 100)
			require.NoError(t, err)
			require.Len(t, b.Records, 100)
			require.Equal(t, 12401, b.Records[0].B)
		}
		fetchUnindexed := func() {
			_, err := lab.Fetch(t, unindexed, afterU, 100)
			require.NoError(t, err)
		}
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			requireSQLitePlan(t, db)
			return
		}
		work, least := rowsRead, 100
		if lab.IsPostgres(driver) {
			work, least = blocksRead, 2
		}
		for _, fetch := range []func(){fetchTable, fetchQuery} {
			fetch() // the first fetch also reads the columns
			n := work(t, db, fetch)
			require.GreaterOrEqual(t, n, least)
			require.Less(t, n, 8*least)
		}
		fetchUnindexed()
		require.Greater(t, work(t, db, fetchUnindexed), 8*least, "a fetch without an index must read more, or the measure shows nothing")
	})
}

// blocksRead returns how many blocks of table and index a fetch accesses in Postgres.
func blocksRead(t *testing.T, db *sqlx.DB, fetch func()) int {
	t.Helper()
	blocks := func() (n int) {
		db.MustExec(`select pg_stat_force_next_flush()`)
		require.NoError(t, db.Get(&n, `select pg_stat_get_blocks_fetched('t'::regclass) + pg_stat_get_blocks_fetched('t_pkey'::regclass)`))
		return n
	}
	before := blocks()
	fetch()
	return blocks() - before
}

// rowsRead returns how many rows MariaDB reads during a fetch.
func rowsRead(t *testing.T, db *sqlx.DB, fetch func()) (n int) {
	t.Helper()
	db.MustExec(`flush status`)
	fetch()
	require.NoError(t, db.Get(&n, `select sum(variable_value) from information_schema.session_status
		where variable_name in ('HANDLER_READ_NEXT', 'HANDLER_READ_RND_NEXT', 'HANDLER_READ_FIRST', 'HANDLER_READ_PREV')`))
	return n
}

func requireSQLitePlan(t *testing.T, db *sqlx.DB) {
	t.Helper()
	for _, from := range []string{`"t" AS t`, "(select v, b, a from t where v <> 'y'\n) AS t"} {
		var plan []struct {
			ID, Parent, Notused int
			Detail              string
		}
		require.NoError(t, db.Select(&plan, `explain query plan select +t."a", +t."b", t.* from `+from+` where (t."a", t."b") > (?, ?) order by t."a", t."b" limit 101`, 2, 12400))
		require.Len(t, plan, 1)
		require.Contains(t, plan[0].Detail, "SEARCH")
		require.Contains(t, plan[0].Detail, "INDEX")
	}
}
