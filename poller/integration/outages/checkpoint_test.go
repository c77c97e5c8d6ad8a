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
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// plainSink keeps the rows it receives, and stores no cursor.
type plainSink struct {
	mu      sync.Mutex
	batches [][]line
}

func (h *plainSink) Write(_ context.Context, b source.Batch[row.Row]) error {
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

// A pipeline to a plain sink stores its checkpoint in the database that it reads. The
// network loses answers or is cut at random times, possibly during a save. A run that
// outlives an outage repeats nothing. A run that is stopped during an outage may leave a
// batch written and not saved; the next run starts with that batch.
func TestOutageOfTheCheckpoint(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			server := serverFor(t, driver)
			database := server.NewDatabase(t)
			between := newProxy(t, server.Addr())
			tb := newTable(t, database.Open(t, driver), driver)
			deadline := shortDeadline
			db := openLimited(t, database.WithAddr(between.Listen), driver, deadline)
			var got plainSink
			newRun := func() (*poller.Poller[row.Row], *journal) {
				store, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
				require.NoError(t, err)
				j := &journal{t: t}
				return &poller.Poller[row.Row]{
					Name:         t.Name(),
					Source:       &sqlsource.Table{DB: db, Name: "items", Key: []string{"id"}},
					Sink:         &got,
					Checkpointer: store,
					Interval:     interval, Deadline: deadline, Grace: deadline / 4,
					Retry: retry.Policy{Base: 10 * time.Millisecond, Cap: maxBackoff},
					Hooks: j.hooks(), Logger: slog.New(j),
				}, j
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			stopWriting := tb.keepWriting()
			runs := 3
			if testing.Short() {
				runs = 2
			}
			again := 0
			for range runs {
				p, j := newRun()
				stop := lab.Start(t, p)
				waitForSaves := func() {
					now := time.Now()
					j.eventually("cursors are saved", func() bool {
						return slices.ContainsFunc(j.after(now, poller.OpSave), func(s step) bool { return s.ended && s.Err == nil })
					})
				}
				waitForFailure := func() {
					now := time.Now()
					j.eventually("a step fails", func() bool { return j.failed(now) > 0 })
				}
				waitForSaves()
				<-time.After(time.Duration(random.IntN(30)) * time.Millisecond)
				between.add("timeout", "downstream", map[string]any{"timeout": 0}) // the server receives requests, its answers are lost
				deaf := time.Now()
				waitForFailure()
				between.remove("timeout", "downstream")
				heard := time.Now()
				waitForSaves()
				times := map[poller.Op]int{}
				for _, o := range j.outages(deaf, heard) {
					times[o.began.op]++
					assert.Equal(t, o.began.op, o.ended.op, "it recovers")
				}
				for op, n := range times {
					assert.Equal(t, 1, n, "%s: one line per outage", op)
				}

				between.Stop() // cuts all connections and refuses new ones
				waitForFailure()
				err := stop()
				var failed *poller.Error
				if errors.As(err, &failed) && failed.Op == poller.OpSave {
					again++
				} else {
					require.NoError(t, err)
				}
				between.restart()
			}
			stopWriting()
			p, _ := newRun()
			require.NoError(t, p.Drain(t.Context()))
			repeated := got.compare(t, tb.rows())
			assert.LessOrEqual(t, repeated, again, "more batches were repeated than runs ended with a batch not saved")
			t.Logf("%d of %d runs ended with a batch not saved, %d batches were repeated", again, runs, repeated)
		})
	}
}

// compare requires that the delivered rows equal the table, and returns how often a batch
// was repeated.
func (h *plainSink) compare(t *testing.T, want []line) (repeated int) {
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

// ledger is a sink that copies rows within a database, each exactly once. One of its
// transactions runs over a network that goes silent right before the commit.
type ledger struct {
	*sqlcheckpoint.Store
	db, dying *sqlx.DB
	silence   func()
	silent    bool
	writes    int
}

func (l *ledger) Write(ctx context.Context, b source.Batch[row.Row]) error {
	l.writes++
	silence := l.writes >= 3 && !l.silent // repeated if a write fails before its commit, as on a busy machine
	db := l.db
	if silence {
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
	if silence {
		l.silence()
		l.silent = true
	}
	return tx.Commit()
}

var _ sink.Sink[row.Row] = (*ledger)(nil)

// The network goes silent in a transaction, and the server does not notice that its client
// is gone. Its session locks the checkpoint's row, but not for ever.
func TestOutageOfASessionThatHoldsTheCheckpoint(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			server := serverFor(t, driver)
			database := server.NewDatabase(t)
			between := newProxy(t, server.Addr())
			db := database.Open(t, driver)
			tb := newTable(t, db, driver)
			db.MustExec("create table copies (id bigint primary key, note text not null)")
			for range 10 {
				require.NoError(t, tb.insert(100, 50))
			}
			dying := sessionTimeout(t, database.WithAddr(between.Listen), driver)
			store, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
			require.NoError(t, err)
			l := &ledger{Store: store, db: db, dying: dying, silence: func() {
				// Unlike the toxic "timeout", this one does not let the end of the
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
				Retry: retry.Policy{Base: 10 * time.Millisecond, Cap: maxBackoff},
				Hooks: j.hooks(), Logger: slog.New(j),
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
			defer cancel()
			require.NoError(t, p.Drain(ctx))
			assert.True(t, l.silent)
			// The write fails by its deadline, or because the server ends the session: the
			// two are milliseconds apart.
			assert.Positive(t, j.failed(time.Time{}, poller.OpWrite), "the write whose commit got no answer fails")
			var copies []line
			require.NoError(t, db.Select(&copies, "select id, note from copies order by id"))
			sameLines(t, tb.rows(), copies)
			t.Logf("it took %v, %d attempts to write 10 batches", time.Since(began).Round(time.Millisecond), l.writes)
		})
	}
}

// sessionTimeout opens a database where the server ends transactions that idle too long. On
// Postgres the checkpoint sets that itself.
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
