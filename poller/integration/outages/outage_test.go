package outages

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
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
	stops := map[*pipeline]func() error{}
	writes := map[*pipeline]func(){}
	each(func(p *pipeline) {
		writes[p] = p.table.keepWriting()
		stops[p] = lab.Start(t, p.poller())
	})

	each((*pipeline).waitForRows)
	f.begin()
	began := time.Now() // calls that are in progress do not count: they may end without the fault
	each(func(p *pipeline) {
		p.eventually("it tries again", func() bool { return p.failed(began, poller.OpFetch) >= attempts })
	})
	f.end()
	healed := time.Now()
	each(func(p *pipeline) {
		ended := p.recoveredFrom(healed)
		for i, s := range p.after(healed, poller.OpFetch) {
			if f.hangs && timedOut(s.Err) {
				continue // a late failure: connections of the outage are cut and do not hang
			}
			assert.NoError(t, s.Err, "attempt %d after the outage", i+1)
		}
		outages := p.outages(began, ended, poller.OpFetch)
		for _, o := range outages {
			assert.Equal(t, poller.OpFetch, o.began.op)
			assert.Equal(t, poller.OpFetch, o.ended.op)
		}
		require.NotEmpty(t, outages)
		if !f.partial {
			require.Len(t, outages, 1)
		}
		t.Logf("%s: %d attempts failed, it recovered %v after: %v", p.source.DB.DriverName(),
			p.failed(began, poller.OpFetch), outages[0].ended.Time.Sub(healed).Round(time.Millisecond), outages[0].began.cause)
	})
	each((*pipeline).waitForRows)
	each(func(p *pipeline) { require.NoError(t, stops[p]()) })

	// Stopped during the fault: neither a deadline nor a backoff of one hour delays the end.
	each(func(p *pipeline) {
		p.journal = &journal{t: t}
		again := p.poller()
		again.Deadline = time.Hour
		if !f.hangs { // otherwise no attempt fails
			again.Retry = retry.Policy{Base: time.Hour, Cap: time.Hour}
		}
		stops[p] = lab.Start(t, again)
	})
	each((*pipeline).waitForRows)
	f.begin()
	began = time.Now()
	each(func(p *pipeline) {
		p.eventually("the outage has begun", func() bool {
			hangs := f.hangs && p.fetching() && time.Since(began) > 20*interval // far longer than a fetch takes
			return hangs || len(p.lines(failing, time.Time{})) > 0
		})
		assert.NoError(t, stops[p](), "stopped during an outage")
		assert.Empty(t, p.lines(recovered, time.Time{}))
		assert.Len(t, p.lines(stopped, time.Time{}), 1)
	})
	f.end()
	each(func(p *pipeline) {
		writes[p]()
		p.finish()
	})
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
						if !slices.Contains(server.Database("").Drivers(), driver) {
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
				server := serverFor(t, driver)
				db := server.NewDatabase(t)
				between := newProxy(t, server.Addr())
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
	stop := lab.Start(t, running)
	p.waitForRows()
	between.blackHole()
	began := time.Now()
	p.eventually("it is overdue", func() bool { return running.Status().Overdue })
	between.endBlackHole()
	ended := p.recoveredFrom(time.Now())
	p.eventually("it is no longer overdue", func() bool { return !running.Status().Overdue })
	p.waitForRows()
	require.NoError(t, stop())
	assert.Len(t, p.outages(began, ended, poller.OpFetch), 1)
	// A machine that stalls for longer than the deadline adds such pairs of lines.
	late, inTime := p.lines(overdue, time.Time{}), p.lines(inTime, time.Time{})
	assert.Len(t, inTime, len(late))
	assert.True(t, slices.ContainsFunc(late, func(l logLine) bool { return l.op == poller.OpFetch }))
	stopWriting()
	p.finish()
}
