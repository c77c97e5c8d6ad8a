package pollertest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

// late acknowledges a batch and stores it when the next one comes.
type late struct {
	sink.Sink[int]
	pending *source.Batch[int]
}

func (l *late) Write(ctx context.Context, b source.Batch[int]) error {
	if err := l.flush(ctx); err != nil {
		return err
	}
	l.pending = &b
	return nil
}

func (l *late) flush(ctx context.Context) error {
	if l.pending == nil {
		return nil
	}
	b := *l.pending
	l.pending = nil
	return l.Sink.Write(ctx, b)
}

// pairs stores a batch once for each From and To.
type pairs struct {
	sink.Sink[int]
	seen map[[2]source.Cursor]bool
}

func (p pairs) Write(ctx context.Context, b source.Batch[int]) error {
	key := [2]source.Cursor{b.From, b.To}
	if p.seen[key] {
		return nil
	}
	p.seen[key] = true
	return p.Sink.Write(ctx, b)
}

// readAhead saves the cursor read last, not the one written last.
type readAhead struct {
	poller.Checkpointer
	mu     sync.Mutex
	read   source.Cursor
	stored source.Cursor
}

func (r *readAhead) reached(c source.Cursor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = max(r.read, c)
}

func (r *readAhead) Load(context.Context) (source.Cursor, error) { return r.stored, nil }

func (r *readAhead) Save(context.Context, source.Cursor, source.Cursor) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored = r.read
	return nil
}

// forgetful does not recognize a batch that it has stored already.
type forgetful struct{ *sinktest.Transactional[int] }

func (f forgetful) Write(ctx context.Context, b source.Batch[int]) error {
	if f.Stored() == b.To {
		return poller.ErrConflict
	}
	return f.Transactional.Write(ctx, b)
}

func TestExploreBrokenPipelines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		e    pollertest.Exploration[int]
		bend func(b *bench, m *pollertest.Machine[int])
		want []string
		not  string
	}{
		"at least once, promised exactly": {pollertest.Exploration[int]{ExactlyOnce: true}, func(b *bench, m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) { return b.atLeast(), nil }
			m.Delivered = func(context.Context) ([]int, error) { return b.plain.Records(), nil }
		}, []string{
			"pollertest: crash after the effect of Write #1: record 1 delivered twice (2 twice of 5)",
			"pollertest: answer lost of Write #1: record 1 delivered twice (2 twice of 5)",
			"pollertest: crash before Save #3: record 5 delivered twice (1 twice of 5)",
		}, "crash before Write"},

		"acknowledges before it has stored": {pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
			m.Start = func(ctx context.Context) (*poller.Poller[int], error) {
				out := &late{Sink: &b.plain}
				p := pipeline(&b.src, out, b.saved.Open())
				p.Hooks.Poll = func(i poller.PollInfo) { // without a crash nothing is lost
					if !i.More {
						_ = out.flush(context.WithoutCancel(ctx))
					}
				}
				return p, nil
			}
		}, []string{
			"pollertest: crash after the effect of Save #1: record 1 lost (2 lost of 5)",
			"pollertest: crash before Write #2: record 1 lost",
		}, "crash before Save #1:"},

		"takes From and To for a key": {pollertest.Exploration[int]{ExactlyOnce: true, Expected: []int{1, 2, 3, 4, 5, 6}}, func(b *bench, m *pollertest.Machine[int]) {
			var once sync.Once
			out := pairs{&b.plain, map[[2]source.Cursor]bool{}}
			m.Start = func(context.Context) (*poller.Poller[int], error) { return pipeline(&b.src, out, b.saved.Open()), nil }
			m.Delivered = func(context.Context) ([]int, error) { return b.plain.Records(), nil }
			m.Kill = func() error { once.Do(func() { b.src.Append(6) }); return nil }
		}, []string{
			"pollertest: crash after the effect of Write #3: record 5 delivered twice (1 twice of 6)",
			"pollertest: crash before Save #3: record 5 delivered twice (1 twice of 6)",
		}, "Write #2"},

		"takes the rest of a batch for a repetition": {pollertest.Exploration[int]{Reports: true}, func(b *bench, m *pollertest.Machine[int]) {
			out := pairs{&b.plain, map[[2]source.Cursor]bool{}}
			m.Start = func(context.Context) (*poller.Poller[int], error) { return pipeline(&b.src, out, b.saved.Open()), nil }
		}, []string{
			"pollertest: crash within Write #1: record 2 lost (1 lost of 5)",
			"pollertest: error within Write #2: record 4 lost (1 lost of 5)",
		}, "crash before"},

		"skips with a smaller limit": {pollertest.Exploration[int]{ExactlyOnce: true}, func(b *bench, m *pollertest.Machine[int]) {
			src := source.Func[int](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
				got, err := b.src.Fetch(ctx, after, 2)
				got.Records = got.Records[:min(limit, len(got.Records))]
				return got, err
			})
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				out := b.exact.Open()
				return pipeline(src, out, out), nil
			}
		}, []string{
			"pollertest: too many records in Write #1: record 2 lost (2 lost of 5)",
		}, "crash"},

		"checkpoint in the process": {pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				return pipeline(&b.src, &b.plain, &pollertest.Checkpointer{}), nil
			}
		}, []string{"pollertest: without any fault: record 1 delivered twice with more than one batch (5 records, a batch has at most 2)"}, "crash"},

		"saves how far it has read": {pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
			c := &readAhead{}
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				src := source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
					got, err := b.src.Fetch(ctx, after, max)
					if err == nil {
						ahead, _ := b.src.Fetch(ctx, got.To, max)
						c.reached(ahead.To)
					}
					return got, err
				})
				return pipeline(src, &b.plain, c), nil
			}
		}, []string{
			"pollertest: crash after the effect of Save #1: record 3 lost (",
			"pollertest: crash before Write #2: record 3 lost (",
		}, "Save #3"},

		"a source that forgets what it has handed out": {pollertest.Exploration[int]{ExactlyOnce: true}, func(b *bench, m *pollertest.Machine[int]) {
			taken := 0
			src := source.Func[int](func(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
				got, err := b.src.Fetch(ctx, b.src.At(taken), max)
				taken += len(got.Records)
				got.From = after
				return got, err
			})
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				out := b.exact.Open()
				return pipeline(src, out, out), nil
			}
		}, []string{
			"pollertest: crash after the effect of Fetch #1: record 1 lost (2 lost of 5)",
			"pollertest: crash before Write #1: record 1 lost",
		}, "Save #3"},

		"out of order": {pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
			m.Delivered = func(context.Context) ([]int, error) { return []int{1, 3, 2, 4, 5}, nil }
		}, []string{"pollertest: without any fault: record 3 out of order: it is at position 1"}, "crash"},

		"something else": {pollertest.Exploration[int]{}, func(b *bench, m *pollertest.Machine[int]) {
			b.src.Append(6)
		}, []string{"pollertest: without any fault: record 6 was delivered and is not expected"}, "crash"},

		"a lost answer is a conflict": {pollertest.Exploration[int]{ExactlyOnce: true}, func(b *bench, m *pollertest.Machine[int]) {
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				out := forgetful{b.exact.Open()}
				return pipeline(&b.src, out, out), nil
			}
		}, []string{`pollertest: answer lost of Write #1: process 1 ends with an error: poller: test: write from "" to "2"`}, "crash"},

		"does not recover from a crash in its recovery": {pollertest.Exploration[int]{ExactlyOnce: true}, func(b *bench, m *pollertest.Machine[int]) {
			starts, drained := 0, false
			m.Start = func(context.Context) (*poller.Poller[int], error) {
				if starts++; starts == 3 && !drained {
					return nil, errors.New("two lock files")
				}
				p := b.exactly()
				p.Hooks.Poll = func(i poller.PollInfo) { drained = drained || !i.More }
				return p, nil
			}
		}, []string{
			"pollertest: crash before Load #1, then crash before Load #1 of process 2: Start: two lock files",
		}, "process 3"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := explore(t, c.e, c.bend)
			require.Error(t, err)
			t.Log(err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), c.not)
		})
	}
}
