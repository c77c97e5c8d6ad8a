package outages

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
)

// fault makes a database unavailable to pipelines, and available again.
type fault struct {
	begin, end func()
	hangs      bool // calls hang instead of failing
	partial    bool // short answers still arrive: a fetch without rows may succeed during the fault
}

// runThroughFault runs pipelines that share a database through a fault twice: once until
// they recover, and once until they are stopped during the fault. Each outage logs one line
// when it begins and one when it ends, the first attempt after it succeeds, and in the end
// the files equal the table.
func runThroughFault(t *testing.T, f fault, pipelines ...*pipeline) {
	t.Helper()
	each := func(do func(p *pipeline)) {
		for _, p := range pipelines {
			do(p)
		}
	}
	attempts := 3
	if f.hangs {
		attempts = 2 // each one takes until its deadline
	}
	stops := map[*pipeline]func() (time.Duration, error){}
	writes := map[*pipeline]func(){}
	each(func(p *pipeline) {
		writes[p] = p.table.keepWriting()
		stops[p] = start(t, p.poller())
	})

	each((*pipeline).waitForRows)
	began := time.Now()
	f.begin()
	each(func(p *pipeline) {
		p.eventually("a failure is logged", func() bool { return len(p.lines("failing, will retry")) > 0 })
		p.eventually("it tries again", func() bool { return p.failures() >= attempts })
	})
	f.end()
	healed := time.Now()
	each(func(p *pipeline) {
		p.eventually("it recovers", func() bool { return len(p.since(began, "recovered")) > 0 })
		took := p.since(began, "recovered")[0].time.Sub(healed)
		most := maxBackoff + slack // the backoff in progress, and a fetch
		if f.hangs {
			most += p.deadline // plus the deadline of the attempt in progress
		}
		assert.LessOrEqual(t, took, most)
		for i, s := range p.after(poller.OpFetch, healed) {
			if f.hangs && (errors.Is(s.Err, poller.ErrTimeout) || errors.Is(s.Err, os.ErrDeadlineExceeded)) {
				continue // a late failure: connections of the outage are cut and do not hang
			}
			assert.NoError(t, s.Err, "attempt %d after the outage", i+1)
		}
	})
	each((*pipeline).waitForRows)
	each(func(p *pipeline) {
		_, err := stops[p]()
		require.NoError(t, err)
		recovered := p.since(began, "recovered")[0].time
		outages := p.outages(began, recovered)
		for _, o := range outages {
			assert.Equal(t, poller.OpFetch, o.began.op)
			assert.Equal(t, poller.OpFetch, o.ended.op)
		}
		if !f.partial {
			require.Len(t, outages, 1)
		}
		t.Logf("%s: %d attempts failed, it recovered %v after: %s", p.source.DB.DriverName(),
			failed(p), recovered.Sub(healed).Round(time.Millisecond), outages[0].began.err)
	})

	// Stopped during the fault: neither a deadline nor a backoff of one minute delays the
	// end.
	each(func(p *pipeline) {
		p.journal = &journal{t: t}
		again := p.poller()
		again.Deadline = time.Minute
		if !f.hangs { // otherwise no attempt fails
			again.Retry = retry.Policy{Base: time.Minute, Cap: time.Minute}
		}
		stops[p] = start(t, again)
	})
	each((*pipeline).waitForRows)
	f.begin()
	began = time.Now()
	each(func(p *pipeline) {
		p.eventually("the outage has begun", func() bool {
			hangs := f.hangs && p.fetching() && time.Since(began) > 20*interval // far longer than a fetch takes
			return hangs || len(p.lines("failing, will retry")) > 0
		})
		took, err := stops[p]()
		assert.NoError(t, err, "stopped during an outage")
		assert.Less(t, took, slack)
		assert.Empty(t, p.since(began, "recovered"))
		assert.Len(t, p.lines("stopped"), 1)
	})
	f.end()
	each(func(p *pipeline) {
		writes[p]()
		p.finish()
	})
}

func failed(p *pipeline) (n int) {
	for _, s := range p.after(poller.OpFetch, time.Time{}) {
		if s.Err != nil {
			n++
		}
	}
	return n
}

// The server is stopped cleanly or killed with SIGKILL, and started again.
func TestOutageOfTheServer(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...dbtest.Option) *dbtest.Server{
		"Postgres": dbtest.StartPostgres, "MariaDB": dbtest.StartMariaDB,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for _, how := range []struct {
				name string
				down func() error
			}{{"stopped", server.Stop}, {"killed", server.Kill}} {
				t.Run(how.name, func(t *testing.T) {
					var pipelines []*pipeline
					for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL} {
						if !answers(server, driver) {
							continue
						}
						db := server.NewDatabase(t)
						tb := newTable(t, db.Open(t, driver), driver)
						pipelines = append(pipelines, newPipeline(t, tb, db.Open(t, driver)))
					}
					runThroughFault(t, fault{
						begin: func() { require.NoError(t, how.down()) },
						end:   func() { require.NoError(t, server.Start()) },
					}, pipelines...)
				})
			}
		})
	}
}

func answers(s *dbtest.Server, driver dbtest.Driver) bool {
	for _, d := range s.Database("").Drivers() {
		if d == driver {
			return true
		}
	}
	return false
}

// The network fails in several ways.
func TestOutageOfTheNetwork(t *testing.T) {
	t.Parallel()
	faults := map[string]func(between proxy, p *pipeline) fault{
		"refused": func(between proxy, _ *pipeline) fault {
			return fault{begin: between.Stop, end: between.restart}
		},
		"reset": func(between proxy, _ *pipeline) fault {
			return fault{
				begin: func() { between.add("reset_peer", "downstream", map[string]any{"timeout": 0}) },
				end:   func() { between.remove("reset_peer", "downstream") },
			}
		},
		// Each connection is cut after 30,000 bytes of answers. The next row is longer than
		// that; batches of shorter rows would pass.
		"cut in mid-row": func(between proxy, p *pipeline) fault {
			return fault{
				partial: true,
				begin: func() {
					p.table.mu.Lock()
					defer p.table.mu.Unlock()
					p.caughtUp()
					between.add("limit_data", "downstream", map[string]any{"bytes": 30_000})
					require.NoError(p.t, p.table.insertLocked(1, 100_000))
				},
				end: func() { between.remove("limit_data", "downstream") },
			}
		},
		"black-holed": func(between proxy, _ *pipeline) fault {
			return fault{hangs: true, begin: between.blackHole, end: between.endBlackHole}
		},
	}
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL} {
		for name, make := range faults {
			t.Run(fmt.Sprintf("%s/%s", driver, name), func(t *testing.T) {
				t.Parallel()
				server := dbtest.Postgres
				if driver == dbtest.MySQL {
					server = dbtest.MariaDB
				}
				db := server(t).NewDatabase(t)
				between := newProxy(t, server(t).Addr())
				tb := newTable(t, db.Open(t, driver), driver)
				deadline := waitLimit
				if name == "black-holed" {
					deadline = shortDeadline
				}
				p := newPipeline(t, tb, openLimited(t, db.WithAddr(between.Listen), driver, deadline))
				p.deadline = deadline
				runThroughFault(t, make(between, p), p)
			})
		}
	}
}

// lib/pq does not interrupt a read when its context ends, so a fetch blocks while packets
// are lost. The pipeline cannot prevent that, but it logs it, and continues afterwards.
func TestOutageThatBlocksTheDriver(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	between := newProxy(t, dbtest.Postgres(t).Addr())
	tb := newTable(t, database.Open(t, dbtest.PQ), dbtest.PQ)
	p := newPipeline(t, tb, database.WithAddr(between.Listen).Open(t, dbtest.PQ))
	p.deadline = shortDeadline
	stopWriting := tb.keepWriting()
	running := p.poller()
	stop := start(t, running)
	p.waitForRows()
	began := time.Now()
	between.blackHole()
	p.eventually("it is overdue", func() bool { return running.Status().Overdue })
	between.endBlackHole()
	p.eventually("it recovers", func() bool { return len(p.since(began, "recovered")) > 0 })
	p.waitForRows()
	assert.False(t, running.Status().Overdue)
	_, err := stop()
	require.NoError(t, err)
	recovered := p.since(began, "recovered")[0].time
	assert.Len(t, p.outages(began, recovered), 1)
	for _, text := range []string{
		"overdue: the call ignores its timeout, the pipeline is stuck until it returns", "no longer overdue",
		"failing, will retry", "recovered",
	} {
		lines := slices.DeleteFunc(p.since(began, text), func(s logLine) bool { return s.time.After(recovered) })
		if assert.Len(t, lines, 1, text) {
			assert.Equal(t, poller.OpFetch, lines[0].op)
		}
	}
	stopWriting()
	p.finish()
}
