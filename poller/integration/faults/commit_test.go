//go:build linux

package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// mirror copies the table items to the table copies, in the transaction of the checkpoint.
// Both connections go through the proxy.
type mirror struct {
	t       *testing.T
	direct  *sqlx.DB
	between *proxy
	poller.Poller[line]
}

func newMirror(t *testing.T, e engine) *mirror {
	t.Helper()
	database := e.shared(t).NewDatabase(t)
	m := &mirror{t: t, direct: database.Open(t, e.driver), between: newProxy(t, e.shared(t).Addr())}
	createTables(e, m.direct)
	m.Poller = pipeline(t, database.WithAddr(m.between.address).Open(t, e.driver), nil)
	return m
}

func createTables(e engine, db *sqlx.DB) {
	db.MustExec(e.create)
	if e.name == mariadb.name { // without a key, so that a row that is delivered twice shows
		db.MustExec(`CREATE TABLE copies (seq bigint AUTO_INCREMENT PRIMARY KEY, id bigint, note longtext)`)
	} else {
		db.MustExec(`CREATE TABLE copies (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bigint, note text)`)
	}
}

// pipeline returns a pipeline from items to copies. Wrap may wrap its sink.
func pipeline(t *testing.T, db *sqlx.DB, wrap func(sink.Sink[line]) sink.Sink[line]) poller.Poller[line] {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store, err := sqlcheckpoint.New(db, "items", sqlcheckpoint.Options{})
	require.NoError(t, err)
	var into sink.Sink[line] = copies{store, db}
	if wrap != nil {
		into = wrap(into)
	}
	return poller.Poller[line]{
		Name: "items", Sink: into, Checkpointer: store, Logger: quiet,
		Source:   &sqlsource.Query[line]{DB: db, Select: "SELECT id, note FROM items", Table: "items", Key: []string{"id"}, Logger: quiet},
		Interval: 5 * time.Millisecond, Retry: retry.Policy{Base: time.Millisecond, Cap: 10 * time.Millisecond},
	}
}

// copies is a sink that stores the cursor with the rows.
type copies struct {
	*sqlcheckpoint.Store
	db *sqlx.DB
}

func (c copies) Write(ctx context.Context, b source.Batch[line]) error {
	tx, err := c.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if moved, err := c.Advance(ctx, tx, b.From, b.To); err != nil || !moved {
		return err
	}
	for _, r := range b.Records {
		if _, err := tx.NamedExecContext(ctx, `INSERT INTO copies (id, note) VALUES (:id, :note)`, r); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (m *mirror) insert(note string) {
	m.t.Helper()
	_, err := m.direct.Exec(m.direct.Rebind(`INSERT INTO items (note) VALUES (?)`), note)
	require.NoError(m.t, err)
}

// compare compares the tables, and fills the row.
func compare(t *testing.T, db *sqlx.DB, r *row) {
	t.Helper()
	r.exit = inTest
	var rows, delivered []line
	require.NoError(t, db.Select(&rows, `SELECT id, note FROM items ORDER BY id`))
	require.NoError(t, db.Select(&delivered, `SELECT id, note FROM copies ORDER BY seq`))
	r.verdict = judge(rows, delivered)
	require.NotEmpty(t, rows)
	assert.Equal(t, verdict{rows: len(rows)}, r.verdict)
}

// inTest stands for the exit codes of a row that starts no process.
const inTest = "none: in the test"

// The connection is reset when the COMMIT of rows and checkpoint is on its way, or when the answer to it is.
func TestCutAtCommit(t *testing.T) {
	t.Parallel()
	for _, e := range servers {
		for name, answered := range map[string]bool{"at COMMIT": false, "after COMMIT": true} {
			t.Run(name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				how := "the connection is reset before COMMIT reaches the server"
				if answered {
					how = "COMMIT reaches the server, and its answer is lost"
				}
				r := results.row(t, fault{part: "network", name: "cut " + name, how: how + "; rows and checkpoint in one transaction"}, e.name)
				m := newMirror(t, e)
				for i := range inTurn(100, 10) {
					m.insert("commit " + strconv.Itoa(i))
					var fired atomic.Int64
					m.between.set(cutCommit(answered, func() { fired.Store(time.Now().UnixNano()) }))
					require.NoError(t, m.Drain(t.Context()))
					require.NotZero(t, fired.Load(), "no COMMIT was seen")
					r.times++
					r.recovered = append(r.recovered, time.Since(time.Unix(0, fired.Load())))
				}
				compare(t, m.direct, r)
			})
		}
	}
}

// cutCommit resets the first connection that carries a COMMIT: before it is passed on, or
// before it is answered.
func cutCommit(answered bool, fired func()) rule {
	done, committing := false, 0
	return func(link int, up bool, data []byte) (int, bool) {
		if done || !up && link != committing || up && !isCommit(data) {
			return len(data), false
		}
		if up && answered {
			committing = link
			return len(data), false
		}
		done = true
		fired()
		return 0, true
	}
}

func isCommit(data []byte) bool { return bytes.Contains(bytes.ToUpper(data), []byte("COMMIT")) }

// The connection is reset at every byte of the traffic of a batch: the fetch, the transaction
// of its rows and its checkpoint, and the fetch of the next batch. In the whole form several
// pipelines share the bytes.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, e := range servers {
		first, step, pipelines := turn()%211, 211, 1
		if whole() {
			first, step, pipelines = 0, *cutStep, 4
		}
		for i := range pipelines {
			t.Run(fmt.Sprintf("%s/%d", e.name, i), func(t *testing.T) {
				t.Parallel()
				cutAtBytes(t, e, first+i*step, step*pipelines)
			})
		}
	}
}

// cutAtBytes cuts a pipeline's traffic at the bytes first, first+step and so on.
func cutAtBytes(t *testing.T, e engine, first, step int) {
	r := results.row(t, fault{part: "network", name: "cut within a batch", how: fmt.Sprintf("the connection is reset after %d, %d, %d, ... bytes of a batch's traffic, in both directions together: its fetch, the transaction of its rows and its checkpoint, the next fetch",
		first, first+step, first+2*step)}, e.name)
	m := newMirror(t, e)
	wake := make(chan struct{}, 1)
	m.Wake, m.Interval = wake, time.Hour // no traffic but that of a batch
	stop := lab.Start(t, &m.Poller)
	m.delivers(0)
	for n := first; ; n += step {
		m.insert("byte " + strconv.Itoa(n))
		var fired atomic.Int64
		m.between.set(cutAfter(n, func() { fired.Store(time.Now().UnixNano()) }))
		wake <- struct{}{}
		m.delivers(r.times + 1)
		if fired.Load() == 0 { // n is more than the traffic
			break
		}
		r.times++
		r.recovered = append(r.recovered, time.Since(time.Unix(0, fired.Load())))
	}
	require.NoError(t, stop())
	assert.NotZero(t, r.times)
	compare(t, m.direct, r)
}

// delivers waits until so many rows are delivered, and the pipeline is idle again.
func (m *mirror) delivers(n int) {
	m.t.Helper()
	lab.WaitFor(m.t, func() bool {
		var delivered int
		err := m.direct.Get(&delivered, `SELECT COUNT(*) FROM copies`)
		return err == nil && delivered >= n && m.Status().State == poller.Idle
	})
}

// A pipeline stands still with a batch in its hands, in the test process. Its successor delivers
// the batch and more. When the first one goes on, it notices that, and delivers nothing.
func TestZombie(t *testing.T) {
	t.Parallel()
	for _, e := range servers {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := results.row(t, fault{part: "process", name: "zombie", how: "a pipeline in the test process stands still before it writes a batch, its successor delivers the batch and more, and then it writes"}, e.name)
			m := newMirror(t, e)
			m.insert("first")
			require.NoError(t, m.Drain(t.Context()))
			for i := range 10 {
				gate := make(chan struct{})
				reached := make(chan struct{}, 1)
				zombie := pipeline(t, m.direct, func(next sink.Sink[line]) sink.Sink[line] {
					return sink.Func[line](func(ctx context.Context, b source.Batch[line]) error {
						select {
						case reached <- struct{}{}:
							<-gate
						default:
						}
						return next.Write(ctx, b)
					})
				})
				m.insert("zombie " + strconv.Itoa(i))
				ended := make(chan error, 1)
				go func() { ended <- zombie.Drain(t.Context()) }()
				<-reached
				m.insert("successor " + strconv.Itoa(i))
				successor := pipeline(t, m.direct, nil)
				require.NoError(t, successor.Drain(t.Context()))
				close(gate)
				require.ErrorIs(t, <-ended, poller.ErrConflict)
				r.times++
			}
			r.note = "the first pipeline ends with ErrConflict"
			compare(t, m.direct, r)
		})
	}
}
