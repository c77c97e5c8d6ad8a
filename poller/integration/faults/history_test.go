//go:build linux

package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// A database is restored from an earlier backup while the copy runs. Rows that were copied are gone, and new ones
// have their ids. The copy ends and says so; so does each start after it, also when the table
// has grown past the copied rows. After -rewind each row of the table is copied.
func TestRestore(t *testing.T) {
	t.Parallel()
	for _, e := range chosenEngines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			f := fault{part: "databases", name: "restore", private: own,
				how: "the server is killed, its data is replaced by an earlier copy, and it grows past the copied rows; each start refuses; then -rewind first"}
			r := results.row(t, f, e.name)
			w := newWorld(t, f, e)
			w.insert(300)
			require.NoError(t, w.server.Stop())
			restore, err := w.server.Backup()
			require.NoError(t, err)
			require.NoError(t, w.server.Start())
			w.copy.start()
			w.eventually("the database answers", func() bool { return w.tryInsert(300) == nil })
			w.catchesUp()

			began := time.Now()
			require.NoError(t, w.server.Kill())
			require.NoError(t, restore())
			require.NoError(t, w.server.Start())
			w.refuses(r, began)
			w.rewind(r, 600, 300)
		})
	}
}

// refuses requires that the copy refuses the history of its table, again and again, also when the table
// grows past the copied rows.
func (w *world) refuses(r *row, began time.Time) {
	w.t.Helper()
	copied := w.copy.delivered()
	w.eventually("the copy refuses", func() bool { return w.copy.ends(began) > 0 })
	r.times++
	r.seen = append(r.seen, time.Since(began))
	w.insert(100)
	w.eventually("it refuses again and again", func() bool { return w.copy.ends(began) > 3 })
	w.insert(900) // past the copied rows
	grown := time.Now()
	w.eventually("it still refuses", func() bool { return w.copy.ends(grown) > 3 })
	assert.Equal(w.t, copied, w.copy.delivered(), "rows were copied although the history does not match")
}

// rewind rewinds the copy to the first row, and fills the row. The files keep the rows copied
// before. Some of these are foreign: they are from the lost history. Then -verify reports them, and misses none.
func (w *world) rewind(r *row, copied, foreign int) {
	w.t.Helper()
	w.copy.stop()
	require.NoError(w.t, w.copy.command("-rewind", "first").Run(), w.copy.log())
	w.settle(r)
	r.note = fmt.Sprintf("-rewind delivers each row of the table, also the %d ids that were copied before (twice); %d copied rows are of the lost history", r.twice, r.foreign)
	assert.Zero(w.t, r.lost, r.example)
	assert.Equal(w.t, foreign, r.foreign, "rows of the lost history")
	assert.Len(w.t, readFiles(w.t, w.dir), copied+r.rows, "each row of the table once more")
	assert.Equal(w.t, "5", r.verify, "it reports the rows of the lost history, and misses none")
}

// chosenEngines are the servers whose turn it is.
func chosenEngines() []engine {
	if whole() {
		return servers
	}
	return servers[turn()%2:][:1]
}

// insert inserts rows in one transaction.
func (w *world) insert(n int) {
	w.t.Helper()
	w.eventually("rows are inserted", func() bool { return w.tryInsert(n) == nil })
}

func (w *world) tryInsert(n int) error {
	query := `INSERT INTO items (note) SELECT md5(random()::text) FROM generate_series(1, $1)`
	if w.engine.name == mariadb.name {
		query = `INSERT INTO items (note) SELECT md5(rand()) FROM (SELECT 1 FROM mysql.help_relation LIMIT ?) x`
	}
	if w.engine.name == sqlite.name {
		query = `INSERT INTO items (note) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT hex(randomblob(16)) FROM n`
	}
	_, err := w.db.Exec(query, n)
	return err
}

// ends returns how often the program ended since a time with an error that it does not
// expect to pass.
func (p *program) ends(since time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.exits {
		if e.code == 1 && e.at.After(since) {
			n++
		}
	}
	return n
}

// The primary is killed, its standby is promoted and takes over. It had everything, because
// commits waited for it.
func TestFailover(t *testing.T) {
	t.Parallel()
	f := fault{part: "databases", name: "failover", private: own,
		how: "the primary is killed, and the name leads to its synchronous standby, which is promoted"}
	r := results.row(t, f, postgres.name)
	w := newWorld(t, f, postgres)
	standby := dbtest.StartStandby(t, w.server, dbtest.Args("-c", "primary_slot_name="))
	useProxy(w)
	w.must(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
	w.must(`SELECT pg_reload_conf()`)
	w.insert(3) // so many delivered rows prove that nothing was lost
	w.write()
	w.copy.start()
	w.flows()
	began := time.Now()
	require.NoError(t, w.server.Kill())
	w.eventually("the fault is noticed", func() bool { return w.copy.failing(began) })
	r.seen = append(r.seen, time.Since(began))
	w.endWriters()
	w.promote(standby)
	healed := time.Now()
	w.insert(100)
	w.catchesUp()
	r.times, r.recovered = 1, []time.Duration{time.Since(healed)}
	w.finish(r)
	assert.Equal(t, "0", r.exit)
}

// promote promotes a standby, and lets its name and the test lead to it.
func (w *world) promote(standby *dbtest.Server) {
	w.t.Helper()
	w.db = standby.Database(w.database.Name()).Open(w.t, postgres.driver)
	w.must(`ALTER SYSTEM RESET synchronous_standby_names`)
	w.must(`SELECT pg_promote()`)
	w.between.redirect(standby.Addr())
}

// The standby misses the last commits, which the copy has delivered. The copy refuses it.
func TestFailoverWithLoss(t *testing.T) {
	t.Parallel()
	f := fault{part: "databases", name: "failover with loss", private: own,
		how: "the primary is killed, and the name leads to an asynchronous standby that lacks the last 300 rows and is promoted; each start refuses; then -rewind first"}
	r := results.row(t, f, postgres.name)
	w := newWorld(t, f, postgres)
	w.insert(300)
	standby := dbtest.StartStandby(t, w.server)
	w.eventually("the standby has the first rows", func() bool {
		var n int
		return standby.Database(w.database.Name()).Open(t, postgres.driver).Get(&n, `SELECT count(*) FROM items`) == nil && n == 300
	})
	require.NoError(t, standby.Stop())
	useProxy(w)
	w.copy.start()
	w.insert(300)
	w.catchesUp()
	began := time.Now()
	require.NoError(t, w.server.Kill())
	require.NoError(t, standby.Start())
	w.promote(standby)
	w.refuses(r, began)
	w.rewind(r, 600, 300)
}
