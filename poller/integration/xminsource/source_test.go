package xminsource_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

func TestConformance(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`CREATE TABLE orders (id int PRIMARY KEY, note text)`)
		db.MustExec(`INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(1, 10) AS n`)
		_, loaded := await(t, sourceOf(db, "orders", "id"), "", 10)
		db.MustExec(`INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(11, 14) AS n`)
		db.MustExec(`UPDATE orders SET note = 'changed ' || id WHERE id IN (3, 5, 8)`)
		settled(t, db)
		_, other := await(t, sourceOf(db, "orders", "note"), "", 14)
		for _, start := range []source.Cursor{"", loaded} {
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Change]{
				Open:  func(context.Context) (source.Source[row.Change], error) { return sourceOf(db, "orders", "id"), nil },
				Start: start, AtLeast: 7, Text: text, Foreign: []source.Cursor{other, "2;x;;i7;00000000"},
			}))
		}
	})
}

func TestInsertsAndUpdates(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`CREATE TABLE orders (id int PRIMARY KEY, note text)`)
		s := sourceOf(db, "orders", "id")
		rows, at, _ := poll(t, s, "")
		assert.Empty(t, rows)
		db.MustExec(`INSERT INTO orders VALUES (2, 'b'), (1, 'a')`)
		rows, at = await(t, s, at, 2)
		assert.Equal(t, []string{`{"id":1,"note":"a"}`, `{"id":2,"note":"b"}`}, rows)
		db.MustExec(`UPDATE orders SET note = 'c' WHERE id = 1`)
		db.MustExec(`UPDATE orders SET note = 'd' WHERE id = 1`)
		rows, at = await(t, s, at, 1)
		assert.Equal(t, []string{`{"id":1,"note":"d"}`}, rows)
		rows, again, _ := poll(t, s, at)
		assert.Empty(t, rows)
		assert.Equal(t, at, again, "an idle source writes no checkpoint")
		db.MustExec(`DELETE FROM orders WHERE id = 2`)
		rows, _, _ = poll(t, s, at)
		assert.Empty(t, rows)
	})
}

// settled waits until no other transaction holds back what has been committed: from a cursor between two passes the order
// depends on how far the next one goes.
func settled(t *testing.T, db *sqlx.DB) {
	var next string
	require.NoError(t, db.Get(&next, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text`))
	lab.WaitFor(t, func() bool {
		var done bool
		return db.Get(&done, `SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8`, next) == nil && done
	})
}

// Behind a pooler each statement can run in another session. One connection is enough.
func TestPooler(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	direct := server.NewDatabase(t)
	setup := direct.Open(t, dbtest.PGX)
	setup.MustExec(`CREATE TABLE t (id int PRIMARY KEY, v int)`)
	pooler := dbtest.StartPgBouncer(t, server, "transaction")
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		t.Run(string(driver), func(t *testing.T) {
			setup.MustExec(`TRUNCATE t`)
			setup.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 5) AS n`)
			db := direct.WithAddr(pooler.Addr()).Open(t, driver)
			db.SetMaxOpenConns(1)
			s := sourceOf(db, "t", "id")
			rows, at := await(t, s, "", 5)
			assert.Equal(t, pairs(1, 2, 3, 4, 5), rows)
			setup.MustExec(`UPDATE t SET v = 0 WHERE id > 3`)
			rows, _ = await(t, s, at, 2)
			assert.Equal(t, pairs(4, 5), rows)
		})
	}
}
