package diffsource

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

func table(db *sqlx.DB, name string, key ...string) *sqlsource.Table {
	return &sqlsource.Table{DB: db, Name: name, Key: key, Logger: slog.New(slog.DiscardHandler)}
}

// The same rows in the types of each database, and the literals for them.
var sameRows = map[string]struct{ columns, values string }{
	"postgres": {`id bigint primary key, ok boolean, amount numeric(12,3), at timestamptz, day date, note text, data bytea, doc jsonb, f double precision, u uuid`,
		`true, 1.50, '2026-01-02 03:04:05.5+00', '2026-01-02', 'Åse ', '\x00ff', '{"a": 1.0, "b": [true]}', 0.1, '0a000000-0000-4000-8000-00000000000b'`},
	"mariadb": {`id bigint primary key, ok tinyint(1), amount decimal(20,5), at datetime(6), day date, note text, data blob, doc json, f double, u char(36)`,
		`1, 1.5, '2026-01-02 03:04:05.500000', '2026-01-02', 'Åse ', x'00ff', '{"b":[true],"a":1}', 0.1, '0a000000-0000-4000-8000-00000000000b'`},
	"sqlite": {`id integer primary key, ok int, amount numeric, at text, day text, note text, data blob, doc text, f real, u text`,
		`1, 1.5, '2026-01-02T03:04:05.5Z', '2026-01-02', 'Åse ', x'00ff', '{"b":[true],"a":1}', 0.1, '0a000000-0000-4000-8000-00000000000b'`},
}

func databases(t *testing.T) map[string]*sqlx.DB {
	return map[string]*sqlx.DB{
		"postgres": lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX),
		"mariadb":  lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL),
		"sqlite":   lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces),
	}
}

// The same values in any two databases are equal, and each other value is a difference.
func TestComparisonOfDatabases(t *testing.T) {
	t.Parallel()
	dbs := databases(t)
	for name, db := range dbs {
		r := sameRows[name]
		db.MustExec(`create table t (` + r.columns + `)`)
		for id := range 30 {
			db.MustExec(fmt.Sprintf(`insert into t values (%d, %s)`, id, r.values))
		}
	}
	compare := func(a, b string) diffsource.Report {
		c := diffsource.Comparison{Source: table(dbs[a], "t", "id"), Copy: table(dbs[b], "t", "id"), Settle: time.Millisecond}
		report, err := c.Run(t.Context())
		require.NoError(t, err)
		return report
	}
	for a := range dbs {
		for b := range dbs {
			require.Equal(t, diffsource.Report{Rows: 30}, compare(a, b), "%s to %s", a, b)
		}
	}
	for n, set := range []string{`ok = null`, `amount = 1.501`, `note = 'Åse'`, `note = 'åse '`, `data = null`, `f = 0.25`, `day = '2026-01-03'`, `doc = '{"b":[false],"a":1}'`} {
		for _, db := range dbs {
			db.MustExec(fmt.Sprintf(`update t set %s where id = %d`, set, n))
		}
		dbs["mariadb"].MustExec(`delete from t where id = ?`, n)
		dbs["mariadb"].MustExec(fmt.Sprintf(`insert into t values (%d, %s)`, n, sameRows["mariadb"].values))
		require.Equal(t, diffsource.Report{Rows: 30, Changed: int64(n + 1)}, compare("postgres", "mariadb"), set)
		require.Equal(t, diffsource.Report{Rows: 30, Changed: int64(n + 1)}, compare("mariadb", "sqlite"), set)
		require.Equal(t, diffsource.Report{Rows: 30}, compare("postgres", "sqlite"), set)
	}
	// Binary data is never text, although both are written as AP8=.
	dbs["sqlite"].MustExec(`update t set data = 'AP8=' where id = 20`)
	require.Equal(t, diffsource.Report{Rows: 30, Changed: 1}, compare("postgres", "sqlite"))
}

// apply writes changes into a table, for a repair.
func apply(t *testing.T, db *sqlx.DB, name string, c row.Change) {
	text := func(r row.Row, i int) string {
		if r.IsNull(i) {
			return "null"
		}
		return "'" + strings.ReplaceAll(r.Text(i), "'", "''") + "'"
	}
	var where []string
	for i := range c.Key.Len() {
		where = append(where, c.Key.Columns().Name(i)+" = "+text(c.Key, i))
	}
	if c.Op != row.Insert {
		db.MustExec("delete from " + name + " where " + strings.Join(where, " and "))
	}
	if c.Op == row.Delete {
		return
	}
	var names, values []string
	for i := range c.Row.Len() {
		names, values = append(names, c.Row.Columns().Name(i)), append(values, text(c.Row, i))
	}
	db.MustExec("insert into " + name + " (" + strings.Join(names, ", ") + ") values (" + strings.Join(values, ", ") + ")")
}

// A repair makes a copy equal, with keys of each kind.
func TestComparisonRepairs(t *testing.T) {
	t.Parallel()
	dbs := databases(t)
	keys := map[string]struct {
		column string
		value  func(n int) string
	}{
		"integers":  {"k bigint not null", func(n int) string { return fmt.Sprint(n) }},
		"texts":     {"k varchar(40) not null", func(n int) string { return fmt.Sprintf("'%s%d'", string([]rune("aBcDéZ")[n%6]), n) }},
		"decimals":  {"k numeric(9,2) not null", func(n int) string { return fmt.Sprintf("%d.5", n) }},
		"composite": {"a int not null, k varchar(40) not null", func(n int) string { return fmt.Sprintf("%d, 'x%d'", n%5, n) }},
	}
	for name, k := range keys {
		columns := []string{"k"}
		if name == "composite" {
			columns = []string{"a", "k"}
		}
		for _, db := range dbs {
			db.MustExec(fmt.Sprintf("create table %s (%s, v varchar(40), primary key (%s))", name, k.column, strings.Join(columns, ", ")))
		}
		for n := range 500 {
			for i, from := range []string{"postgres", "mariadb", "sqlite"} {
				if n%13 == i {
					continue // missing here
				}
				v := fmt.Sprint("v", n)
				if n%17 == i+3 {
					v = "changed"
				}
				dbs[from].MustExec(fmt.Sprintf("insert into %s values (%s, '%s')", name, k.value(n), v))
			}
		}
		for _, to := range []string{"mariadb", "sqlite"} {
			c := diffsource.Comparison{Source: table(dbs["postgres"], name, columns...), Copy: table(dbs[to], name, columns...), Settle: time.Millisecond}
			c.Source.MaxBytes, c.Copy.MaxBytes = 4000, 3000 // so that there are many pages
			for change, err := range c.Changes(t.Context()) {
				require.NoError(t, err)
				apply(t, dbs[to], name, change)
			}
			require.NotZero(t, c.Report().Missing, name)
			require.NotZero(t, c.Report().Extra, name)
			require.NotZero(t, c.Report().Changed, name)
			r, err := c.Run(t.Context())
			require.NoError(t, err)
			require.True(t, r.Equal(), "%s: %v", name, r)
		}
	}
}

// A row that changes while it is compared does not differ.
func TestComparisonOfRowsInFlight(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key, v int)`)
	db.MustExec(`insert into t select i, 0 from generate_series(1, 1000) i`)
	db.MustExec(`create table copy as select * from t`)
	db.MustExec(`alter table copy add primary key (id)`)
	db.MustExec(`delete from copy where id = 500`)
	db.MustExec(`update copy set v = 7 where id = 501`)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // both tables change at one moment, but are read at different ones
		for n := 1; ctx.Err() == nil; n++ {
			db.MustExec(`with source as (update t set v = $1 where id % 10 = $2) update copy set v = $1 where id % 10 = $2 and id <> 501`, n, n%10)
		}
		close(done)
	}()
	t.Cleanup(func() { stop(); <-done })
	c := diffsource.Comparison{Source: table(db, "t", "id"), Copy: table(db, "copy", "id"), Settle: 20 * time.Millisecond}
	for range 5 {
		r, err := c.Run(t.Context())
		require.NoError(t, err)
		require.Zero(t, r.Extra)
		require.LessOrEqual(t, r.Missing+r.Changed, int64(2), "%v", r)
	}
	stop()
	<-done
	r, err := c.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, diffsource.Report{Rows: 1000, Missing: 1, Changed: 1}, r)
}

// A key that the copy spells in another way, and takes for the same, is deleted before the row is inserted. Written in
// that order the changes lose no row.
func TestComparisonOfOtherSpellings(t *testing.T) {
	t.Parallel()
	copyOf := lab.DatabaseFor(t, dbtest.MySQL).Open(t, dbtest.MySQL)
	for name, db := range map[string]*sqlx.DB{"exact": lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX), "equal": copyOf} {
		kind := "varchar(20)"
		if name == "equal" {
			kind += " collate utf8mb4_general_ci"
		}
		db.MustExec(`create table ` + name + ` (k ` + kind + ` primary key, v int)`)
		db.MustExec(`insert into ` + name + ` values ('A', 1), ('b', 2), ('C', 3), ('d', 4)`)
		for _, together := range []bool{false, true} {
			to := fmt.Sprintf("%s_%v", name, together)
			copyOf.MustExec(`create table ` + to + ` (k varchar(20) collate utf8mb4_general_ci primary key, v int)`)
			copyOf.MustExec(`insert into ` + to + ` values ('a', 1), ('b', 2), ('c', 7), ('e', 5)`)
			c := diffsource.Comparison{Source: table(db, name, "k"), Copy: table(copyOf, to, "k"), Settle: time.Millisecond}
			var got []string
			var all []row.Change
			for change, err := range c.Changes(t.Context()) {
				require.NoError(t, err)
				got = append(got, change.Op.String()+" "+change.Key.Text(0))
				if all = append(all, change); !together {
					apply(t, copyOf, to, change)
				}
			}
			require.Equal(t, []string{"delete a", "insert A", "delete c", "insert C", "insert d", "delete e"}, got)
			for i := 0; together && i < len(all); i++ {
				apply(t, copyOf, to, all[i])
			}
			r, err := c.Run(t.Context())
			require.NoError(t, err)
			require.Equal(t, diffsource.Report{Rows: 4}, r)
		}
	}
}
