//go:build linux

package faults

import (
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
			f := fault{part: "databases", name: "restore", private: own, dies: true,
				how: "the server is stopped, its data is replaced by an earlier copy, and it grows past the copied rows; -rewind first follows"}
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
			healed := time.Now()
			w.eventually("the copy refuses", func() bool { return w.copy.ends(began) > 0 })
			seen := time.Since(healed)
			w.insert(100)
			w.eventually("it refuses again and again", func() bool { return w.copy.ends(began) > 3 })
			w.insert(900) // past the copied rows
			grown := time.Now()
			w.eventually("it still refuses", func() bool { return w.copy.ends(grown) > 3 })
			assert.Equal(t, int64(600), w.copy.delivered(), "rows were copied although the history does not match")
			w.copy.stop()

			require.NoError(t, w.copy.command("-rewind", "first").Run(), w.copy.log())
			v, exit := w.settle()
			assert.Zero(t, v.lost, v.example)
			assert.Equal(t, 300, v.foreign, "rows of the lost history")
			verify := w.copy.command("-verify")
			text, _ := verify.Output()
			assert.Equal(t, 5, codeOf(verify), "it reports the rows of the lost history, and misses none: %s", text)
			r := row{fault: f, where: e.name, times: 1, seen: []time.Duration{seen}, exit: exit, verdict: verdict{rows: v.rows, lost: v.lost}}
			results.add(t, r)
		})
	}
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
	f := fault{part: "databases", name: "failover", on: onlyPostgres, private: own, dies: true, times: 1,
		how: "the primary is killed, and the name leads to its synchronous standby, which is promoted"}
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
	seen := time.Since(began)
	w.endWriters()
	after := standby.Database(w.database.Name())
	w.db = after.Open(t, postgres.driver)
	w.must(`ALTER SYSTEM RESET synchronous_standby_names`)
	w.must(`SELECT pg_promote()`)
	w.between.redirect(standby.Addr())
	healed := time.Now()
	w.insert(100)
	w.catchesUp()
	r := row{fault: f, where: "Postgres", times: 1, seen: []time.Duration{seen}, recovered: []time.Duration{time.Since(healed)}}
	r.verdict, r.exit = w.finish()
	results.add(t, r)
	assert.Equal(t, verdict{rows: r.rows}, r.verdict)
	assert.Equal(t, "0", r.exit)
}
