package pglog_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

var slots atomic.Int64

func TestCopyThenChanges(t *testing.T) {
	t.Parallel()
	server := start(t)
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		db := server.NewDatabase(t).Open(t, driver)
		db.MustExec(`create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b'); create publication p for table t`)
		s := open(t, db)
		got, at := read(t, s, "", 1)
		assert.Equal(t, []string{"upsert public.t {1} {1, a} -", "upsert public.t {2} {2, b} -"}, texts(t, got))

		db.MustExec(`insert into t values (3, 'c')`)
		db.MustExec(`update t set v = 'B' where id = 2`)
		db.MustExec(`update t set id = 4 where id = 3`)
		db.MustExec(`delete from t where id = 1`)
		got, at = read(t, s, at, 3)
		assert.Equal(t, []string{"insert public.t {3} {3, c} -", "update public.t {2} {2, B} -", "update public.t {4} {4, c} {3}", "delete public.t {1} - {1}"}, texts(t, got))
		db.MustExec(`truncate t`)
		got, _ = read(t, s, at, 3)
		assert.Equal(t, []string{"truncate public.t - - -"}, texts(t, got))
		require.NoError(t, s.Close())
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	server := start(t)
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		for _, skip := range []bool{true, false} {
			db := server.NewDatabase(t).Open(t, driver)
			db.MustExec(`create table t (id int primary key, v text); create table u (a text, b int, primary key (a, b)); create publication p for table t, u`)
			s := open(t, db)
			s.SkipCopy = skip
			if skip {
				read(t, s, "", 1)
			}
			db.MustExec(`insert into t select i, i::text from generate_series(1, 6) i`)
			db.MustExec(`insert into u select i::text, i from generate_series(1, 3) i`)
			if skip {
				db.MustExec(`update t set v = 'x' where id > 3; truncate u`)
			}
			other := open(t, db)
			other.SkipCopy = true
			read(t, other, "", 1)
			db.MustExec(`create table w(id int primary key); alter publication p add table w`)
			err := sourcetest.TestSource(t.Context(), sourcetest.Options[row.Change]{
				Open:    func(context.Context) (source.Source[row.Change], error) { return s, nil },
				AtLeast: 9,
			})
			require.NoError(t, err, "%s %v", driver, skip)
		}
	}
}
