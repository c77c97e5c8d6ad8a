//go:build linux

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// world is a table, writers that insert into it, and a copy of it.
type world struct {
	t        *testing.T
	engine   engine
	server   *dbtest.Server // nil for SQLite
	database dbtest.Database
	db       *sqlx.DB       // not affected by faults of the network
	between  *proxy         // between the copy and the server; set by useProxy
	pooler   *dbtest.Server // between the copy and the server; set by usePooler
	dir      string         // of the copy's files
	copy     *program
	calls    int // system calls that strace made fail

	gate        sync.RWMutex // locked while the writers have to pause
	stopWriters context.CancelFunc
	writers     sync.WaitGroup
}

func newWorld(t *testing.T, f fault, e engine) *world {
	t.Helper()
	w := &world{t: t, engine: e, dir: t.TempDir(), stopWriters: func() {}}
	switch {
	case e.start == nil:
		w.database = dbtest.SQLite(t)
	case f.private != nil:
		w.server = e.start(t, f.private(t)...)
		w.database = w.server.NewDatabase(t)
	default:
		w.server = e.shared(t)
		w.database = w.server.NewDatabase(t)
	}
	w.db = w.database.Open(t, e.driver)
	w.db.MustExec(e.create)
	dbtofile(t) // to build it takes a while, which no wait includes
	w.copy = newProgram(w)
	return w
}

// write lets writers insert rows until the copy is finished: in transactions of several
// statements that stay open for a moment, some of which are rolled back. SQLite has one
// writer at a time.
func (w *world) write() {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stopWriters = cancel
	n := 3
	if w.server == nil {
		n = 1
	}
	for i := range n {
		w.writers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for pause(ctx, time.Duration(5+random.IntN(20))*time.Millisecond) {
				w.gate.RLock()
				w.transaction(ctx, random) // its error does not matter: the table shows which rows were committed
				w.gate.RUnlock()
			}
		})
	}
	w.t.Cleanup(w.endWriters)
}

// pauseWriters lets the writers pause until the returned function is called, or the test ends.
func (w *world) pauseWriters() (resume func()) {
	w.gate.Lock()
	resume = sync.OnceFunc(w.gate.Unlock)
	w.t.Cleanup(resume)
	return resume
}

func (w *world) endWriters() {
	w.stopWriters()
	w.writers.Wait()
}

func (w *world) transaction(ctx context.Context, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // a stopped server holds no writer for ever
	defer cancel()
	tx, err := w.db.BeginTxx(ctx, nil)
	if err != nil {
		return
	}
	defer tx.Rollback()
	for range 1 + random.IntN(3) {
		values := make([]string, 1+random.IntN(8))
		for i := range values {
			values[i] = fmt.Sprintf("('note %x %s')", random.Uint64(), strings.Repeat("x", random.IntN(200)))
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO items (note) VALUES "+strings.Join(values, ", ")); err != nil {
			return
		}
		if !pause(ctx, time.Duration(random.IntN(4))*time.Millisecond) {
			return
		}
	}
	if random.IntN(8) > 0 {
		_ = tx.Commit()
	}
}

// pause waits, and reports whether the context has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// newest returns the greatest committed id. It waits for a server that is still starting.
func (w *world) newest() (id int64) {
	w.t.Helper()
	w.eventually("the database answers", func() bool {
		return w.db.Get(&id, "SELECT COALESCE(MAX(id), 0) FROM items") == nil
	})
	return id
}

// flows waits until rows arrive that are committed from now on.
func (w *world) flows() {
	w.t.Helper()
	before := w.newest()
	w.eventually("new rows are copied", func() bool { return w.copy.delivered() > before })
}

// catchesUp waits until all rows that are committed now are copied.
func (w *world) catchesUp() {
	w.t.Helper()
	committed := w.newest()
	w.eventually("the copy catches up", func() bool { return w.copy.delivered() >= committed })
}

// finish ends the writers, lets the copy deliver the rest, and fills the row. Each row of the
// table must have been delivered once and in order, and -verify must agree.
func (w *world) finish(r *row) {
	w.t.Helper()
	w.settle(r)
	assert.Equal(w.t, verdict{rows: r.rows}, r.verdict)
	assert.Equal(w.t, "0", r.verify, "-verify")
}

// settle is finish without the demands.
func (w *world) settle(r *row) {
	w.t.Helper()
	w.endWriters()
	w.copy.stop()
	w.copy.once()
	var rows []line
	require.NoError(w.t, w.db.Select(&rows, "SELECT id, note FROM items ORDER BY id"))
	require.NotEmpty(w.t, rows)
	r.verdict, r.exit = judge(rows, readFiles(w.t, w.dir)), w.copy.exitCodes()
	r.verify = w.copy.verify()
}

// eventually waits for a condition. If it does not become true, the test fails with the
// last lines of the log.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(lab.WaitLimit); !is(); {
		select {
		case <-tick.C:
		case <-late:
			w.t.Fatalf("it did not happen that %s; the log ends with\n%s", what, w.copy.log())
		}
	}
}

// must runs a statement that injects a fault, or ends it.
func (w *world) must(statement string, args ...any) {
	w.t.Helper()
	_, err := w.db.ExecContext(context.WithoutCancel(w.t.Context()), statement, args...)
	require.NoError(w.t, err, statement)
}
