package pollertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

var five = []int{1, 2, 3, 4, 5}

// bench is a machine of fakes, which a test changes.
type bench struct {
	src   sourcetest.Fake[int]
	exact sinktest.Transactional[int]
	plain sinktest.Fake[int]
	saved pollertest.Checkpointer
}

func newBench() *bench {
	b := &bench{}
	b.src.Append(five...)
	return b
}

func pipeline(src source.Source[int], out sink.Sink[int], c poller.Checkpointer) *poller.Poller[int] {
	return &poller.Poller[int]{Name: "test", Source: src, Sink: out, Checkpointer: c, BatchSize: 2}
}

func (b *bench) exactly() *poller.Poller[int] {
	out := b.exact.Open()
	return pipeline(&b.src, out, out)
}

func (b *bench) atLeast() *poller.Poller[int] { return pipeline(&b.src, &b.plain, b.saved.Open()) }

// explore explores benches that bend has changed.
func explore(t *testing.T, e pollertest.Exploration[int], bend func(b *bench, m *pollertest.Machine[int])) (int, error) {
	t.Helper()
	e.New = func(context.Context) (pollertest.Machine[int], error) {
		b := newBench()
		m := pollertest.Machine[int]{
			Start:     func(context.Context) (*poller.Poller[int], error) { return b.exactly(), nil },
			Delivered: func(context.Context) ([]int, error) { return b.exact.Records(), nil },
		}
		if !e.ExactlyOnce {
			m.Start = func(context.Context) (*poller.Poller[int], error) { return b.atLeast(), nil }
			m.Delivered = func(context.Context) ([]int, error) { return b.plain.Records(), nil }
		}
		if bend != nil {
			bend(b, &m)
		}
		return m, nil
	}
	if e.Expected == nil {
		e.Expected = five
	}
	return pollertest.Explore(t.Context(), e)
}

func TestExploreGoodPipelines(t *testing.T) {
	t.Parallel()
	n, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: true}, nil)
	require.NoError(t, err)
	require.Equal(t, 618, n)
	again, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: true}, nil)
	require.NoError(t, err)
	require.Equal(t, n, again)

	n, err = explore(t, pollertest.Exploration[int]{Reports: true}, nil)
	require.NoError(t, err)
	require.Equal(t, 820, n)

	n, err = explore(t, pollertest.Exploration[int]{ExactlyOnce: true, Depth: 3, Limit: 500}, nil)
	require.NoError(t, err)
	require.Equal(t, 1+32+500+500, n, "of two faults and of three, 500 each")
}

func TestExploreRecordsThatAppearMeanwhile(t *testing.T) {
	t.Parallel()
	for _, exactly := range []bool{true, false} {
		n, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: exactly, Expected: []int{1, 2, 3, 4, 5, 6, 7, 8}},
			func(b *bench, m *pollertest.Machine[int]) {
				var once sync.Once
				m.Kill = func() error { once.Do(func() { b.src.Append(6, 7, 8) }); return nil }
			})
		require.NoError(t, err)
		require.Greater(t, n, 500)
	}
}

func TestExploreDeadLetters(t *testing.T) {
	t.Parallel()
	n, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: true, Expected: []int{1, 2, 4, 5}},
		func(b *bench, m *pollertest.Machine[int]) {
			b.exact.Refuse = func(r int) error {
				if r == 3 {
					return errors.New("three")
				}
				return nil
			}
			var letters sinktest.Fake[poller.Rejected[int]]
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				p := b.exactly()
				p.DeadLetter = &letters
				return p, nil
			}
			m.Remove = func() error {
				if n := len(letters.Records()); n < 1 || n > 3 {
					return errors.New("dead letters missing, or more than once for each fault")
				}
				return nil
			}
		})
	require.NoError(t, err)
	require.Greater(t, n, 700)
}

// A sink that stores records one by one repeats at most the batch in which the
// process crashed.
func TestExploreASinkThatStoresRecordsOneByOne(t *testing.T) {
	t.Parallel()
	n, err := explore(t, pollertest.Exploration[int]{Reports: true}, func(b *bench, m *pollertest.Machine[int]) {
		m.Start = func(context.Context) (*poller.Poller[int], error) {
			return pipeline(&b.src, sink.Each(1, b.plain.Store), b.saved.Open()), nil
		}
	})
	require.NoError(t, err)
	require.Greater(t, n, 600)
}

// objects stores each batch as an object, which replaces an earlier one of this name.
type objects struct {
	mu    sync.Mutex
	named map[source.Cursor][]int
	names []source.Cursor
}

func (o *objects) Write(ctx context.Context, b source.Batch[int]) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, replaced := o.named[b.To]; !replaced {
		o.names = append(o.names, b.To)
	}
	o.named[b.To] = slices.Clone(b.Records)
	return ctx.Err()
}

func (o *objects) delivered(context.Context) (all []int, err error) {
	for _, name := range o.names {
		all = append(all, o.named[name]...)
	}
	return all, nil
}

// A sink that stores each batch whole never reports a part of it. If it did, the rest
// would replace that part.
func TestExploreASinkThatStoresBatchesAsObjects(t *testing.T) {
	t.Parallel()
	for reports, want := range map[bool]string{false: "", true: "pollertest: error within Write #1: record 1 lost"} {
		_, err := explore(t, pollertest.Exploration[int]{Reports: reports, Depth: 1}, func(b *bench, m *pollertest.Machine[int]) {
			o := &objects{named: make(map[source.Cursor][]int)}
			m.Start = func(context.Context) (*poller.Poller[int], error) { return pipeline(&b.src, o, b.saved.Open()), nil }
			m.Delivered = o.delivered
		})
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

// The source cannot make a record, and the sink refuses another one: both are dead
// letters, and the sink gets the others.
func TestExploreRecordsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	for _, exactly := range []bool{true, false} {
		n, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: exactly, Reports: !exactly, Expected: []int{1, 3, 5}, Depth: 1},
			func(b *bench, m *pollertest.Machine[int]) {
				var letters sinktest.Fake[poller.Rejected[int]]
				b.src.Bad = func(r int) error {
					if r == 2 {
						return errors.New("NULL does not fit")
					}
					return nil
				}
				refuse := func(r int) error {
					if r == 4 {
						return errors.New("four")
					}
					return nil
				}
				b.exact.Refuse, b.plain.Refuse = refuse, refuse
				m.Start = func(context.Context) (*poller.Poller[int], error) {
					p := b.exactly()
					if !exactly {
						p = pipeline(&b.src, sink.Each(1, b.plain.Store), b.saved.Open())
					}
					p.DeadLetter = &letters
					return p, nil
				}
				m.Remove = func() error {
					made, unmade := false, false
					for _, l := range letters.Records() {
						made = made || l.Record == 4
						unmade = unmade || l.Key == "record 2"
					}
					if !made || !unmade {
						return errors.New("a dead letter is missing")
					}
					return nil
				}
			})
		require.NoError(t, err)
		require.Greater(t, n, 30)
	}
}

func TestExploreNamesWhatCannotBeExplored(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for want, bend := range map[string]func(m *pollertest.Machine[int]){
		"pollertest: without any fault: Start: broken": func(m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) { return nil, broken }
		},
		"pollertest: without any fault: Kill: broken": func(m *pollertest.Machine[int]) { m.Kill = func() error { return broken } },
		"pollertest: without any fault: broken":       func(m *pollertest.Machine[int]) { m.Remove = func() error { return broken } },
		"pollertest: without any fault: Delivered: broken": func(m *pollertest.Machine[int]) {
			m.Delivered = func(context.Context) ([]int, error) { return nil, broken }
		},
		`pollertest: without any fault: process 1 ends with an error: poller: "" is misconfigured`: func(m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				p := newBench().exactly()
				p.Name = ""
				return p, nil
			}
		},
		"pollertest: without any fault: Start returned neither": func(m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) { return nil, nil }
		},
		"Source is not set: the pipeline has nothing to read from\nSink is not set": func(m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) { return &poller.Poller[int]{Name: "bare"}, nil }
		},
	} {
		_, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: true}, func(_ *bench, m *pollertest.Machine[int]) { bend(m) })
		require.ErrorContains(t, err, want)
		require.Equal(t, 1, strings.Count(err.Error(), "pollertest:"), "nothing is explored further")
	}
	_, err := explore(t, pollertest.Exploration[int]{Expected: []int{1, 2, 1}}, nil)
	require.EqualError(t, err, "pollertest: Expected[0] and [2] are the same, 1: the records must differ")
	_, err = explore(t, pollertest.Exploration[int]{ExactlyOnce: true, Reports: true}, nil)
	require.ErrorContains(t, err, "Exploration.ExactlyOnce and Reports are set")
	_, err = explore(t, pollertest.Exploration[int]{Depth: -1}, nil)
	require.EqualError(t, err, "pollertest: Exploration.Depth (-1) and Limit (1000) must not be negative")
	_, err = explore(t, pollertest.Exploration[int]{Expected: []int{}}, nil)
	require.EqualError(t, err, "pollertest: Exploration.Expected is empty, so nothing could be lost")
	_, err = pollertest.Explore(t.Context(), pollertest.Exploration[int]{Expected: five})
	require.EqualError(t, err, "pollertest: Exploration.New is not set")
	_, err = pollertest.Explore(t.Context(), pollertest.Exploration[int]{
		Expected: five,
		New:      func(context.Context) (pollertest.Machine[int], error) { return pollertest.Machine[int]{}, broken },
	})
	require.EqualError(t, err, "pollertest: without any fault: New: broken")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = pollertest.Explore(ctx, pollertest.Exploration[int]{
		Expected: five,
		New:      func(context.Context) (pollertest.Machine[int], error) { return pollertest.Machine[int]{}, broken },
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestExploreAPipelineThatIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := explore(t, pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
			b.plain.Delay(24 * time.Hour)
		})
		require.ErrorContains(t, err, "pollertest: without any fault: process 1 ends with an error: poller: test: stopped before all records were delivered: stuck: not drained after 1m0s")
	})
}

func TestExploreAPipelineThatFails(t *testing.T) {
	t.Parallel()
	_, err := explore(t, pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
		b.plain.Fail(errors.New("down for ever"))
	})
	require.ErrorContains(t, err, `pollertest: without any fault: process 1 ends with an error: poller: test: write from "" to "2", 10 attempts: down for ever`)
}

func TestExploreSeesEveryPoint(t *testing.T) {
	t.Parallel()
	n, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: true, Depth: 1}, nil)
	require.NoError(t, err)
	// Load, 3 × Fetch, Write, Save, then Load and Fetch of the idle process; the
	// answers of 3 writes and saves; 2 writes of two records that are too large; and
	// one run without any fault.
	require.Equal(t, 2*(1+3*3+2)+3*2+2+1, n)

	n, err = explore(t, pollertest.Exploration[int]{Reports: true, Depth: 1}, nil)
	require.NoError(t, err)
	// There are also two faults within each of the 2 writes.
	require.Equal(t, 2*(1+3*3+2)+3*2+2+1+2*2, n)
}

// In a bubble a pipeline waits in no time, here for records that are held back.
func TestExploreInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n, err := explore(t, pollertest.Exploration[int]{ExactlyOnce: true, Expected: []int{1, 2, 3, 4, 5, 6}, Limit: 100},
			func(b *bench, _ *pollertest.Machine[int]) {
				b.src.Hold(source.Held{By: []string{"pid 1"}, Retry: 10 * time.Second})
				b.src.Append(6)
				time.AfterFunc(5*time.Second, b.src.Release)
			})
		require.NoError(t, err)
		require.Greater(t, n, 100)
		require.Greater(t, time.Since(began), 5*time.Minute)
	})
}
