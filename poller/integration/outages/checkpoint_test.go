package outages

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// heap is a sink that keeps its records and ignores cursors.
type heap struct {
	mu      sync.Mutex
	batches [][]line
}

func (h *heap) Write(_ context.Context, b source.Batch[row.Row]) error {
	lines, err := parse(b.Records)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches = append(h.batches, lines)
	return nil
}

func parse(rows []row.Row) ([]line, error) {
	lines := make([]line, len(rows))
	for i, r := range rows {
		text, err := r.MarshalJSON()
		if err == nil {
			err = json.Unmarshal(text, &lines[i])
		}
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// A pipeline to a plain sink, its checkpoint in the database that it reads. The
// network turns deaf or is cut at some moment, in the middle of a save or not.
// A run that lives through it repeats nothing. One that is told to stop may
// have to leave a batch written and not saved: the next run begins with it.
func TestOutageOfTheCheckpoint(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			server := dbtest.Postgres
			if driver == dbtest.MySQL {
				server = dbtest.MariaDB
			}
			database := server(t).NewDatabase(t)
			between := newProxy(t, server(t).Addr())
			tb := newTable(t, database.Open(t, driver), driver)
			deadline := brief
			db := impatient(t, database.At(between.Listen), driver, deadline)
			var got heap
			life := func() (*poller.Poller[row.Row], *journal) {
				store, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
				require.NoError(t, err)
				j := &journal{t: t}
				return &poller.Poller[row.Row]{
					Name:         t.Name(),
					Source:       &sqlsource.Table{DB: db, Name: "items", Key: []string{"id"}},
					Sink:         &got,
					Checkpointer: store,
					Interval:     interval, Deadline: deadline, Grace: deadline / 4,
					Retry: retry.Policy{Base: 10 * time.Millisecond, Cap: capped},
					Hooks: j.hooks(), Logger: slog.New(j),
				}, j
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			stopWriting := tb.keepWriting()
			lives := 3
			if testing.Short() {
				lives = 2
			}
			again := 0
			for range lives {
				p, j := life()
				stop := start(t, p)
				moving := func() {
					now := time.Now()
					j.eventually("cursors are saved", func() bool { return len(j.after(poller.OpSave, now)) >= 2 })
				}
				failing := func(since time.Time) {
					j.eventually("it says that it fails", func() bool { return len(j.since(since, "failing, will retry")) > 0 })
				}
				moving()
				<-time.After(time.Duration(random.IntN(30)) * time.Millisecond)
				deaf := time.Now()
				between.add("timeout", "downstream", map[string]any{"timeout": 0}) // the server hears, its answers are lost
				failing(deaf)
				between.remove("timeout", "downstream")
				heard := time.Now()
				moving()
				times := map[poller.Op]int{}
				for _, o := range j.outages(deaf, heard) {
					times[o.began.op]++
					assert.Equal(t, o.began.op, o.ended.op, "it recovers")
				}
				for op, n := range times {
					assert.Equal(t, 1, n, "%s: one line an outage", op)
				}

				cut := time.Now()
				between.Stop() // refused, and all connections cut
				failing(cut)
				took, err := stop()
				assert.Less(t, took, deadline+slack)
				var failed *poller.Error
				if errors.As(err, &failed) && failed.Op == poller.OpSave {
					again++
				} else {
					require.NoError(t, err)
				}
				between.again()
			}
			stopWriting()
			p, _ := life()
			require.NoError(t, p.Drain(t.Context()))
			repeated := got.compare(t, tb.rows())
			assert.LessOrEqual(t, repeated, again, "batches that came twice, of runs that ended with one not saved")
			t.Logf("%d of %d runs ended with a batch not saved, %d came twice", again, lives, repeated)
		})
	}
}

// compare holds what came against the table, and returns how often the batch
// before came again.
func (h *heap) compare(t *testing.T, want []line) (repeated int) {
	t.Helper()
	var got []line
	for i, batch := range h.batches {
		if i > 0 && len(batch) > 0 && batch[0].ID == h.batches[i-1][0].ID {
			got = got[:len(got)-len(h.batches[i-1])]
			repeated++
		}
		got = append(got, batch...)
	}
	sameLines(t, want, got)
	return repeated
}

// ledger is a sink that copies rows within a database, each exactly once. One
// transaction is begun over a network that goes silent right before its commit.
type ledger struct {
	*sqlcheckpoint.Store
	db, dying *sqlx.DB
	silence   func()
	silent    bool
	writes    int
}

func (l *ledger) Write(ctx context.Context, b source.Batch[row.Row]) error {
	l.writes++
	dies := l.writes >= 3 && !l.silent // again if a machine with other work is late before that
	db := l.db
	if dies {
		db = l.dying
	}
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if moved, err := l.Advance(ctx, tx, b.From, b.To); err != nil || !moved {
		return err
	}
	lines, err := parse(b.Records)
	if err != nil {
		return err
	}
	if _, err := tx.NamedExecContext(ctx, "insert into copies (id, note) values (:id, :note)", lines); err != nil {
		return err
	}
	if dies {
		l.silence()
		l.silent = true
	}
	return tx.Commit()
}

var _ sink.Sink[row.Row] = (*ledger)(nil)

// The network goes silent within a transaction, and the server never learns
// that its client has gone. Its session holds the checkpoint's row locked, but
// not for ever.
func TestOutageOfASessionThatHoldsTheCheckpoint(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			server := dbtest.Postgres
			if driver == dbtest.MySQL {
				server = dbtest.MariaDB
			}
			database := server(t).NewDatabase(t)
			between := newProxy(t, server(t).Addr())
			db := database.Open(t, driver)
			tb := newTable(t, db, driver)
			db.MustExec("create table copies (id bigint primary key, note text not null)")
			for range 10 {
				require.NoError(t, tb.insert(100, 50))
			}
			dying := sessionTimeout(t, database.At(between.Listen), driver)
			store, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
			require.NoError(t, err)
			l := &ledger{Store: store, db: db, dying: dying, silence: func() {
				// Unlike the toxic timeout this one does not let the end of the
				// connection through either.
				between.add("latency", "upstream", map[string]any{"latency": time.Hour.Milliseconds()})
			}}
			j := &journal{t: t}
			p := &poller.Poller[row.Row]{
				Name:         t.Name(),
				Source:       &sqlsource.Table{DB: db, Name: "items", Key: []string{"id"}},
				Sink:         l,
				Checkpointer: l,
				BatchSize:    100, Interval: interval, Deadline: time.Second,
				Retry: retry.Policy{Base: 10 * time.Millisecond, Cap: capped},
				Hooks: j.hooks(), Logger: slog.New(j),
			}
			began := time.Now()
			require.NoError(t, p.Drain(t.Context()))
			assert.Less(t, time.Since(began), patience)
			assert.True(t, l.silent)
			// By its deadline, or by the server, which ends the session then: the
			// two are milliseconds apart.
			assert.True(t, slices.ContainsFunc(j.lines("failing, will retry"), func(s said) bool {
				return s.op == poller.OpWrite
			}), "the write fails whose commit is not answered")
			var copies []line
			require.NoError(t, db.Select(&copies, "select id, note from copies order by id"))
			sameLines(t, tb.rows(), copies)
			t.Logf("it took %v, %d attempts to write 10 batches", time.Since(began).Round(time.Millisecond), l.writes)
		})
	}
}

// sessionTimeout opens a database over which the caller's transactions may not
// idle for ever. On Postgres the checkpoint sees to that.
func sessionTimeout(t *testing.T, d dbtest.Database, driver dbtest.Driver) *sqlx.DB {
	t.Helper()
	dsn := d.DSN(driver)
	if driver == dbtest.MySQL {
		dsn += "&idle_write_transaction_timeout=1"
	}
	db, err := sqlx.Open(driver.SQLName(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}
