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

// fault is a way to come between pipelines and their database.
type fault struct {
	begin, end func()
	hangs      bool // calls hang instead of failing
	porous     bool // short answers come through: a fetch of no rows may succeed in the middle
}

// survive lets pipelines that share a database live through a fault twice: once
// they wait it out, once they are told to stop in the middle of it. Of each
// outage there is one line when it begins and one when it is over, the first
// attempt after it succeeds, and in the end the files are the table.
func survive(t *testing.T, f fault, pipelines ...*pipeline) {
	t.Helper()
	each := func(do func(p *pipeline)) {
		for _, p := range pipelines {
			do(p)
		}
	}
	attempts := 3
	if f.hangs {
		attempts = 2 // each takes its time
	}
	stops := map[*pipeline]func() (time.Duration, error){}
	writes := map[*pipeline]func(){}
	each(func(p *pipeline) {
		writes[p] = p.table.keepWriting()
		stops[p] = start(t, p.poller())
	})

	each((*pipeline).moving)
	began := time.Now()
	f.begin()
	each(func(p *pipeline) {
		p.eventually("it says that it fails", func() bool { return len(p.lines("failing, will retry")) > 0 })
		p.eventually("it tries again", func() bool { return p.failures() >= attempts })
	})
	f.end()
	healed := time.Now()
	each(func(p *pipeline) {
		p.eventually("it recovers", func() bool { return len(p.since(began, "recovered")) > 0 })
		took := p.since(began, "recovered")[0].time.Sub(healed)
		most := capped + slack // the backoff in progress, and a fetch
		if f.hangs {
			most += p.deadline // of the attempt in progress
		}
		assert.LessOrEqual(t, took, most)
		for i, s := range p.after(poller.OpFetch, healed) {
			if f.hangs && (errors.Is(s.Err, poller.ErrTimeout) || errors.Is(s.Err, os.ErrDeadlineExceeded)) {
				continue // slow: the connections of the outage are cut, and do not hang
			}
			assert.NoError(t, s.Err, "attempt %d after the outage", i+1)
		}
	})
	each((*pipeline).moving)
	each(func(p *pipeline) {
		_, err := stops[p]()
		require.NoError(t, err)
		recovered := p.since(began, "recovered")[0].time
		outages := p.outages(began, recovered)
		for _, o := range outages {
			assert.Equal(t, poller.OpFetch, o.began.op)
			assert.Equal(t, poller.OpFetch, o.ended.op)
		}
		if !f.porous {
			require.Len(t, outages, 1)
		}
		t.Logf("%s: %d attempts failed, it recovered %v after: %s", p.source.DB.DriverName(),
			failed(p), recovered.Sub(healed).Round(time.Millisecond), outages[0].began.err)
	})

	// Told to stop: neither a deadline nor a backoff of a minute keeps it.
	each(func(p *pipeline) {
		p.journal = &journal{t: t}
		again := p.poller()
		again.Deadline = time.Minute
		if !f.hangs { // then no attempt fails
			again.Retry = retry.Policy{Base: time.Minute, Cap: time.Minute}
		}
		stops[p] = start(t, again)
	})
	each((*pipeline).moving)
	f.begin()
	began = time.Now()
	each(func(p *pipeline) {
		p.eventually("the outage is felt", func() bool {
			hangs := f.hangs && p.fetching() && time.Since(began) > 20*interval // far longer than it takes
			return hangs || len(p.lines("failing, will retry")) > 0
		})
		took, err := stops[p]()
		assert.NoError(t, err, "told to stop in the middle of an outage")
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

// The server is stopped in order, or killed with SIGKILL, and started again.
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
						if !speaks(server, driver) {
							continue
						}
						db := server.NewDatabase(t)
						tb := newTable(t, db.Open(t, driver), driver)
						pipelines = append(pipelines, newPipeline(t, tb, db.Open(t, driver)))
					}
					survive(t, fault{
						begin: func() { require.NoError(t, how.down()) },
						end:   func() { require.NoError(t, server.Start()) },
					}, pipelines...)
				})
			}
		})
	}
}

func speaks(s *dbtest.Server, driver dbtest.Driver) bool {
	for _, d := range s.Database("").Drivers() {
		if d == driver {
			return true
		}
	}
	return false
}

// The network fails, in each of the ways it has.
func TestOutageOfTheNetwork(t *testing.T) {
	t.Parallel()
	faults := map[string]func(between proxy, p *pipeline) fault{
		"refused": func(between proxy, _ *pipeline) fault {
			return fault{begin: between.Stop, end: between.again}
		},
		"reset": func(between proxy, _ *pipeline) fault {
			return fault{
				begin: func() { between.add("reset_peer", "downstream", map[string]any{"timeout": 0}) },
				end:   func() { between.remove("reset_peer", "downstream") },
			}
		},
		// Each connection is cut after 30,000 bytes of answers, and the next
		// row to read is longer than that: batches of shorter ones would pass.
		"cut in mid-row": func(between proxy, p *pipeline) fault {
			return fault{
				porous: true,
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
			return fault{hangs: true, begin: between.blackHole, end: between.pass}
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
				deadline := patience
				if name == "black-holed" {
					deadline = brief
				}
				p := newPipeline(t, tb, impatient(t, db.At(between.Listen), driver, deadline))
				p.deadline = deadline
				survive(t, make(between, p), p)
			})
		}
	}
}

// lib/pq does not interrupt a read when its context ends, so it sits out a
// black hole. The pipeline cannot help that, but it says so, and goes on after.
func TestOutageThatTheDriverSitsOut(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	between := newProxy(t, dbtest.Postgres(t).Addr())
	tb := newTable(t, database.Open(t, dbtest.PQ), dbtest.PQ)
	p := newPipeline(t, tb, database.At(between.Listen).Open(t, dbtest.PQ))
	p.deadline = brief
	stopWriting := tb.keepWriting()
	running := p.poller()
	stop := start(t, running)
	p.moving()
	began := time.Now()
	between.blackHole()
	p.eventually("it is overdue", func() bool { return running.Status().Overdue })
	between.pass()
	p.eventually("it recovers", func() bool { return len(p.since(began, "recovered")) > 0 })
	p.moving()
	assert.False(t, running.Status().Overdue)
	_, err := stop()
	require.NoError(t, err)
	recovered := p.since(began, "recovered")[0].time
	assert.Len(t, p.outages(began, recovered), 1)
	for _, text := range []string{
		"overdue: the call ignores its timeout, the pipeline is stuck until it returns", "no longer overdue",
		"failing, will retry", "recovered",
	} {
		lines := slices.DeleteFunc(p.since(began, text), func(s said) bool { return s.time.After(recovered) })
		if assert.Len(t, lines, 1, text) {
			assert.Equal(t, poller.OpFetch, lines[0].op)
		}
	}
	stopWriting()
	p.finish()
}
