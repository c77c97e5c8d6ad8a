package diffsource

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A view is a table, and so is a SELECT with joins.
func TestViews(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table a (id int primary key, n int)`)
		db.MustExec(`create table b (a int not null, note varchar(20))`)
		db.MustExec(`insert into a values (1, 1), (2, 2), (3, 3)`)
		db.MustExec(`insert into b values (1, 'x'), (2, 'y'), (2, 'z')`)
		db.MustExec(`create view v as select a.id, a.n, (select count(*) from b where b.a = a.id) as notes from a where a.n < 10`)
		view := open(t, db, t.TempDir(), "v", "id")
		joined := open(t, db, t.TempDir(), "a", "id", "note")
		joined.Table.Select = "select a.id, b.note from a join b on b.a = a.id"
		got, at := changes(t, view, "", 2)
		require.Len(t, got, 3)
		require.Contains(t, got[1], `"row":{"id":2,"n":2,"notes":2}`)
		got, of := changes(t, joined, "", 2)
		require.Len(t, got, 3)

		db.MustExec(`update a set n = 10 where id = 1`)
		db.MustExec(`delete from b where note = 'y'`)
		db.MustExec(`insert into b values (3, 'w')`)
		got, _ = changes(t, view, at, 2)
		require.Equal(t, []string{
			`{"op":"delete","table":"v","key":{"id":1}}`,
			`{"op":"update","table":"v","key":{"id":2},"row":{"id":2,"n":2,"notes":1}}`,
			`{"op":"update","table":"v","key":{"id":3},"row":{"id":3,"n":3,"notes":1}}`,
		}, got)
		got, _ = changes(t, joined, of, 2)
		require.Equal(t, []string{
			`{"op":"delete","table":"a","key":{"id":2,"note":"y"}}`,
			`{"op":"insert","table":"a","key":{"id":3,"note":"w"},"row":{"id":3,"note":"w"}}`,
		}, got)
	})
}

// With the columns of the key alone only inserts and deletes are found. A table that was emptied gives deletes, and
// one that was replaced its differences. A column that was added changes each row.
func TestTableChanges(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key, n int)`)
		db.MustExec(`insert into t values (1, 1), (2, 2), (3, 3)`)
		whole, keys := open(t, db, t.TempDir(), "t", "id"), open(t, db, t.TempDir(), "t", "id")
		keys.Table.Columns = []string{"id"}
		_, at := changes(t, whole, "", 9)
		_, of := changes(t, keys, "", 9)
		ops := func(s *diffsource.Source, after source.Cursor) (map[row.Op]int, source.Cursor) {
			r := &replica{t: t, at: after, seen: map[row.Op]int{}}
			for {
				b, err := lab.Fetch(t, s, r.at, 2)
				require.NoError(t, err)
				for _, c := range b.Records {
					r.seen[c.Op]++
					require.Equal(t, 1, c.Key.Len())
				}
				if r.at = b.To; !b.More {
					return r.seen, r.at
				}
			}
		}
		step := func(wantWhole, wantKeys map[row.Op]int, statements ...string) {
			t.Helper()
			for _, s := range statements {
				db.MustExec(s)
			}
			var got map[row.Op]int
			got, at = ops(whole, at)
			require.Equal(t, wantWhole, got)
			got, of = ops(keys, of)
			require.Equal(t, wantKeys, got)
		}
		none := map[row.Op]int{}
		step(none, none)
		step(map[row.Op]int{row.Update: 1}, none, `update t set n = 7 where id = 1`)
		step(map[row.Op]int{row.Update: 3}, none, `alter table t add column extra int`)
		step(none, none)
		empty := `truncate table t`
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			empty = `delete from t`
		}
		step(map[row.Op]int{row.Delete: 3}, map[row.Op]int{row.Delete: 3}, empty)
		step(map[row.Op]int{row.Insert: 2}, map[row.Op]int{row.Insert: 2}, `insert into t values (1, 1, 1), (2, 2, 2)`)
		step(map[row.Op]int{row.Insert: 1, row.Update: 1, row.Delete: 1}, map[row.Op]int{row.Insert: 1, row.Delete: 1},
			`drop table t`, `create table t (id int primary key, n int, extra int)`, `insert into t values (2, 3, 4), (5, 5, 5)`)
	})
}

// A cursor without its state is an error that says what to do. The state of a cursor that was read again exists.
func TestState(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	db.MustExec(`create table t (id int primary key, n int)`)
	db.MustExec(`insert into t values (1, 1), (2, 2), (3, 3), (4, 4)`)
	dir := t.TempDir()
	s := open(t, db, dir, "t", "id")
	began := time.Now()
	b, err := lab.Fetch(t, s, begun(t, s), 2)
	require.NoError(t, err)
	require.Len(t, b.Records, 2)
	require.True(t, b.More)
	require.True(t, b.AsOf.IsZero(), "no pass is complete")
	require.Regexp(t, `^pass 1 of 20\S+Z, at 2$`, b.Position)
	middle := b.To
	_, at := changes(t, s, middle, 9)
	again := open(t, db, dir, "t", "id")
	_, err = again.Fetch(t.Context(), at, 1)
	require.ErrorContains(t, err, "is locked: another Source uses it")
	s.Every = time.Hour
	b, err = lab.Fetch(t, s, at, 1)
	require.NoError(t, err)
	require.False(t, b.AsOf.Before(began.Truncate(time.Millisecond)))
	require.Regexp(t, `^pass 1 of 20\S+Z, complete$`, b.Position)
	require.NoError(t, s.Close())

	elsewhere := open(t, db, t.TempDir(), "t", "id")
	for _, c := range []source.Cursor{middle, at} {
		_, err = elsewhere.Fetch(t.Context(), c, 1)
		require.ErrorIs(t, err, diffsource.ErrState)
		lab.RequirePermanent(t, err, "put its files back", "start over with an empty checkpoint: the first pass delivers each row as an upsert")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.state"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		text[len(text)-3] ^= 1
		require.NoError(t, os.WriteFile(f, text, 0o600))
	}
	_, err = again.Fetch(t.Context(), at, 1)
	lab.RequirePermanent(t, err, "it is damaged")
	require.ErrorIs(t, err, diffsource.ErrState)
	require.NoError(t, again.Close())
}

// Keys that are not unique, or NULL, are errors that name them.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id int, n int)`)
		db.MustExec(`insert into t values (1, 1), (2, 2), (2, 3)`)
		first := begun(t, open(t, db, t.TempDir(), "t", "id"))
		_, err := open(t, db, t.TempDir(), "t", "id").Fetch(t.Context(), first, 5)
		lab.RequirePermanent(t, err, "two rows have the key id = 2")
		db.MustExec(`delete from t where n = 3`)
		db.MustExec(`insert into t values (null, 3)`)
		_, err = open(t, db, t.TempDir(), "t", "id").Fetch(t.Context(), first, 5)
		lab.RequirePermanent(t, err, `the key column "id" is NULL in a row`)
	})
}

// A row that is too large is reported once, and again when it changes from a readable row.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		text := "text"
		if lab.IsMariaDB(driver) {
			text = "mediumtext"
		}
		db.MustExec(`create table t (id int primary key, body ` + text + `)`)
		insert := func(id, size int) {
			db.MustExec(fmt.Sprintf(`insert into t values (%d, '%0*d')`, id, size, id))
		}
		for id := 1; id <= 4; id++ {
			insert(id, 10)
		}
		db.MustExec(`delete from t where id = 3`)
		insert(3, 300_000)
		s := open(t, db, t.TempDir(), "t", "id")
		s.Table.MaxRowBytes = 100_000
		var at source.Cursor
		pass := func() (ops []string) {
			for {
				b, err := lab.Fetch(t, s, at, 10)
				var bad *source.BadRecord
				if errors.As(err, &bad) {
					ops, at = append(ops, "bad "+bad.Key), bad.To
					continue
				}
				require.NoError(t, err)
				for _, c := range b.Records {
					ops = append(ops, c.Op.String()+" "+c.Key.Text(0))
				}
				if at = b.To; !b.More {
					return ops
				}
			}
		}
		require.Equal(t, []string{"upsert 1", "upsert 2", "bad id 3", "upsert 4"}, pass())
		require.Empty(t, pass())
		db.MustExec(`delete from t where id in (2, 3)`)
		insert(3, 20)
		insert(2, 300_000)
		require.Equal(t, []string{"bad id 2", "upsert 3"}, pass())
		db.MustExec(`delete from t where id = 2`)
		require.Equal(t, []string{"delete 2"}, pass())
	})
}

// With Snapshot the rows of a pass are as of one moment, and a pass that takes longer goes on in another one.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key, n int)`)
		values := ""
		for id := range 6_000 {
			values += fmt.Sprintf("(%d, 0),", id)
		}
		db.MustExec(`insert into t values ` + values[:len(values)-1])
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			db.MustExec(`pragma journal_mode = wal`)
		}
		for _, long := range []time.Duration{time.Hour, 1} {
			s := open(t, db, t.TempDir(), "t", "id")
			s.Snapshot = long
			n, sum := 0, 0
			for at := source.Cursor(""); ; {
				b, err := lab.Fetch(t, s, at, 5000)
				require.NoError(t, err)
				for _, c := range b.Records {
					n++
					if c.Row.Text(1) != "0" {
						sum++
					}
				}
				if at = b.To; !b.More {
					break
				}
				if n == 5000 {
					db.MustExec(`update t set n = 1`)
				}
			}
			require.NoError(t, s.Close())
			require.Equal(t, 6_000, n)
			require.Equal(t, long == 1, sum > 0, "%d rows of another moment", sum)
			db.MustExec(`update t set n = 0`)
		}
		require.Zero(t, db.Stats().InUse)
	})
}
