package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/lease"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

const ttl = 15 * time.Second

var errDown = errors.New("connection refused")

// fleet is the storage that replicas share, and a journal of what they write.
type fleet struct {
	t     *testing.T
	src   sourcetest.Fake[int]
	out   sinktest.Transactional[int]
	beats sinktest.Checkpoint

	mu      sync.Mutex
	made    int // records
	all     []*replica
	journal []entry
	active  map[*replica]bool
	outage  error // of the store of the lease
}

// entry is a write that succeeded.
type entry struct {
	by *replica
	at time.Time
}

func newFleet(t *testing.T) *fleet {
	return &fleet{t: t, active: map[*replica]bool{}}
}

// replica is a process.
type replica struct {
	*fleet
	name  string
	p     *poller.Poller[int]
	out   *sinktest.Transactional[int]
	beats *sinktest.Checkpoint
	stop  context.CancelFunc
	ended chan error

	dead, cutOff bool          // guarded by fleet.mu
	paused       chan struct{} // guarded by fleet.mu; closed when the replica is resumed
}

// start starts a process.
func (f *fleet) start() *replica {
	f.mu.Lock()
	r := &replica{fleet: f, name: fmt.Sprintf("replica %d", len(f.all)+1), out: f.out.Open(), beats: f.beats.Open(), ended: make(chan error, 1)}
	f.all = append(f.all, r)
	f.mu.Unlock()
	r.out.FailFunc(func(fault.Call, fault.Point) error { return r.gate(false) })
	r.beats.FailFunc(func(fault.Call, fault.Point) error { return r.gate(true) })
	r.p = &poller.Poller[int]{
		Name: r.name, Source: &f.src, Checkpointer: r.out, Interval: 100 * time.Millisecond,
		Sink:   sink.Func[int](r.write),
		Lease:  watched{r, &lease.Heartbeat{Store: r.beats, TTL: ttl, Name: r.name}},
		Logger: slog.New(slog.DiscardHandler),
	}
	ctx, stop := context.WithCancel(f.t.Context())
	r.stop = stop
	go func() { r.ended <- r.p.Run(ctx) }()
	return r
}

// gate is what every call of the process passes: a dead one has no effect, and one
// of a paused process waits, whatever its context.
func (r *replica) gate(ofLease bool) error {
	r.mu.Lock()
	paused := r.paused
	r.mu.Unlock()
	if paused != nil {
		<-paused
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.dead:
		return errors.New("killed")
	case ofLease && r.cutOff:
		return errDown
	case ofLease:
		return r.outage
	}
	return nil
}

func (r *replica) write(ctx context.Context, b source.Batch[int]) error {
	err := r.out.Write(ctx, b)
	if err == nil && len(b.Records) > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.journal = append(r.journal, entry{r, time.Now()})
	}
	return err
}

// watched counts the active replicas.
type watched struct {
	*replica
	lease poller.Lease
}

func (w watched) Hold(ctx context.Context, active func(context.Context) error) error {
	return w.lease.Hold(ctx, func(ctx context.Context) error {
		w.mu.Lock()
		w.active[w.replica] = true
		alive := 0
		for r := range w.active {
			if !r.dead && r.paused == nil {
				alive++
			}
		}
		w.mu.Unlock()
		assert.Equal(w.t, 1, alive, "one active at a time")
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.active, w.replica)
		}()
		return active(ctx)
	})
}

// kill ends the process without any more effect.
func (r *replica) kill() {
	r.mu.Lock()
	r.dead = true
	r.mu.Unlock()
	r.stop()
	r.t.Logf("%s was killed: %v", r.name, <-r.ended)
}

func (r *replica) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = make(chan struct{})
}

func (r *replica) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.paused)
	r.paused = nil
}

// set changes a field that is guarded by the mutex.
func (f *fleet) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// feed appends records until the returned function is called.
func (f *fleet) feed() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-f.t.Context().Done(): // the test has failed
				return
			case <-time.After(100 * time.Millisecond):
			}
			f.made++
			f.src.Append(f.made)
		}
	}()
	return func() { close(end); <-ended }
}

// written returns the writes so far.
func (f *fleet) written() []entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.journal)
}

// writer returns the replica that wrote last.
func (f *fleet) writer() *replica {
	all := f.written()
	require.NotEmpty(f.t, all)
	return all[len(all)-1].by
}

// takenOver returns how long after since another replica than old wrote first.
func (f *fleet) takenOver(old *replica, since time.Time) time.Duration {
	for range 1000 {
		for _, e := range f.written() {
			if e.by != old && !e.at.Before(since) {
				return e.at.Sub(since)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.t.Error("nobody has taken over")
	return 0
}

// standbys returns how many of the replicas stand by.
func standbys(all []*replica) (n int) {
	for _, r := range all {
		if r.p.Status().State == poller.Standby {
			n++
		}
	}
	return n
}

// inBubble runs a test with n replicas that have been running for a minute.
func inBubble(t *testing.T, n int, test func(t *testing.T, f *fleet, all []*replica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		for range n {
			f.start()
		}
		stop := f.feed()
		time.Sleep(time.Minute)
		test(t, f, f.all)
		time.Sleep(time.Minute)
		stop()
		time.Sleep(time.Minute)
		f.set(func() {
			want := make([]int, f.made)
			for i := range want {
				want[i] = i + 1
			}
			assert.Equal(t, want, f.out.Records(), "none lost, none twice, in order")
		})
		for _, r := range f.all {
			r.stop()
			if !r.dead {
				assert.NoError(t, <-r.ended, r.name)
			}
		}
	})
}
