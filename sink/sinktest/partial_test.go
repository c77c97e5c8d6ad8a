package sinktest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

// runOn runs the suite on a sink whose records are those of the fake.
func runOn(t *testing.T, fake *sinktest.Fake[order], to sink.Sink[order], limit int) error {
	return sinktest.TestSink(t.Context(), sinktest.Options[order]{
		Open: func(context.Context) (sinktest.Opened[order], error) { return sinktest.Opened[order]{Sink: to}, nil },
		Read: func(context.Context) ([]order, error) {
			records := fake.Records()
			slices.SortStableFunc(records, func(a, b order) int { return cmp.Compare(a.ID, b.ID) })
			return records, nil
		},
		Record: newOrder,
		Poison: badOrder,
		Limit:  limit,
	})
}

func TestSinksThatStoreRecordsOneByOnePass(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		fake := &sinktest.Fake[order]{Refuse: refuse}
		require.NoError(t, runOn(t, fake, sink.Each(parallel, fake.Store), 0))
	}
}

// A sink that stores a few records before each error.
func TestASinkThatIsInterruptedWithinABatchPasses(t *testing.T) {
	t.Parallel()
	fake := &sinktest.Fake[order]{Refuse: refuse}
	calls := atomic.Int64{}
	each := sink.Each(1, func(ctx context.Context, o order) error {
		if calls.Add(1)%2 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return fake.Store(context.WithoutCancel(ctx), o)
	})
	require.NoError(t, runOn(t, fake, each, 0))
}

func TestSinksWithALimitPass(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{5, 6, 100, 5000} {
		fake := &sinktest.Fake[order]{Refuse: refuse, Limit: limit}
		require.NoError(t, runOn(t, fake, fake, limit), limit)
		exact := &sinktest.Transactional[order]{Refuse: refuse, Limit: limit}
		require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[order]{
			Open: func(context.Context) (sinktest.Opened[order], error) {
				h := exact.Open()
				return sinktest.Opened[order]{Sink: h, Checkpointer: h}, nil
			},
			Read:   func(context.Context) ([]order, error) { return exact.Records(), nil },
			Record: newOrder,
			Poison: badOrder,
			Limit:  limit,
		}), limit)
	}
	tooLong := func(o order) error { // refused because it is too large, like a batch
		return sink.TooLarge(refuse(o))
	}
	fake := &sinktest.Fake[order]{}
	require.NoError(t, runOn(t, fake, sink.Func[order](func(ctx context.Context, b source.Batch[order]) error {
		for _, o := range b.Records {
			if err := tooLong(o); err != nil {
				return err
			}
		}
		return fake.Write(ctx, b)
	}), 0))
}

// A sink that is slow, that says with Stored that it has stored all, or that stores a
// part of a batch that is too large.
func TestSinksThatReportTheirProgressPass(t *testing.T) {
	t.Parallel()
	half := func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
		if n := len(b.Records) / 2; n > 2 {
			b.Records = b.Records[:n]
			if err := each.Write(ctx, b); err != nil {
				return err
			}
			return sink.Stored(n, sink.TooLarge(errors.New("413")))
		}
		return each.Write(ctx, b)
	}
	all := func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
		if err := each.Write(ctx, b); err != nil {
			return err
		}
		return sink.Stored(len(b.Records), nil)
	}
	for _, takes := range []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond} {
		for limit, write := range map[int]func(context.Context, sink.Sink[order], source.Batch[order]) error{0: all, 5: half} {
			synctest.Test(t, func(t *testing.T) {
				fake := &sinktest.Fake[order]{Refuse: refuse}
				each := sink.Each(1, func(ctx context.Context, o order) error {
					select {
					case <-time.After(takes):
						return fake.Store(ctx, o)
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				require.NoError(t, runOn(t, fake, sink.Func[order](func(ctx context.Context, b source.Batch[order]) error { return write(ctx, each, b) }), limit))
			})
		}
	}
}

func TestBrokenProgressFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		parallel int
		write    func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error
		want     string
	}{
		"counts one too many": {1, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			return moved(each.Write(ctx, b), +1)
		}, "sink.Stored(n, err) says that the first n records are stored, and record n is not: record 0 of 1 is missing"},
		"counts one too few": {1, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			return moved(each.Write(ctx, b), -1)
		}, "sink.Stored counts records of the batch: -1 of a batch of 3"},
		"names another record": {1, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			err := each.Write(ctx, b)
			if errors.Is(err, sink.ErrRejected) {
				err = moved(err, -1)
			}
			return err
		}, "sink.Stored(n, sink.Reject(err)) names record n as the refused one: the poisoned record is record 1, and n is 0"},
		"forgets what is stored after the refused record": {4, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			err := each.Write(ctx, b)
			if stored := (*sink.StoredError)(nil); errors.As(err, &stored) {
				clear(stored.Others)
			}
			return err
		}, "no record is stored twice by a sink that reports its progress: 3 records were stored for 2"},
		"names records that the batch does not have": {4, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			return other(each.Write(ctx, b), len(b.Records), nil)
		}, "StoredError.Others is about records after record N: N is 1, the batch has 3, and Others has record 3"},
		"reports a failure as an outcome": {4, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			return other(each.Write(ctx, b), len(b.Records)-1, errors.New("503"))
		}, "StoredError.Others has stored and rejected records only: record 2: 503"},
		"joins its errors": {1, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			return errors.Join(each.Write(ctx, b))
		}, "the error of sink.Stored is not joined with others: the Poller does not believe it then: 0 records stored: context canceled"},
		"rejects the rest of a slow batch": {1, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			if len(b.Records) > 5 {
				b.Records = b.Records[:5]
				_ = each.Write(ctx, b)
				return sink.Stored(5, sink.Reject(errors.New("no time left")))
			}
			return each.Write(ctx, b)
		}, "Write stores every record, in order, before it returns: handle A: record 5 was rejected"},
		"drops the rest": {1, func(ctx context.Context, each sink.Sink[order], b source.Batch[order]) error {
			err := each.Write(ctx, b)
			if stored := (*sink.StoredError)(nil); errors.As(err, &stored) && stored.N > 0 && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}, "a Write that is interrupted and succeeds has stored: stored: "},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &sinktest.Fake[order]{Refuse: refuse}
			each := sink.Each(c.parallel, fake.Store)
			err := runOn(t, fake, sink.Func[order](func(ctx context.Context, b source.Batch[order]) error { return c.write(ctx, each, b) }), 0)
			require.ErrorContains(t, err, c.want)
			t.Log(err)
		})
	}
}

// other adds an outcome to the error of a batch with a refused record.
func other(err error, i int, outcome error) error {
	if stored := (*sink.StoredError)(nil); errors.As(err, &stored) && errors.Is(err, sink.ErrRejected) {
		stored.Others[i] = outcome
	}
	return err
}

// moved changes how many records are stored according to an error.
func moved(err error, by int) error {
	if stored := (*sink.StoredError)(nil); errors.As(err, &stored) {
		return sink.Stored(stored.N+by, stored.Err)
	}
	return err
}

func TestAnExactlyOnceSinkThatReportsProgressFails(t *testing.T) {
	t.Parallel()
	s := &store{exact: true}
	err := sinktest.TestSink(t.Context(), sinktest.Options[order]{
		Open: func(ctx context.Context) (sinktest.Opened[order], error) {
			o, err := s.open(ctx)
			to := o.Sink
			o.Sink = sink.Func[order](func(ctx context.Context, b source.Batch[order]) error {
				if err := to.Write(ctx, b); err != nil {
					return sink.Stored(0, err)
				}
				return nil
			})
			return o, err
		},
		Read:   func(context.Context) ([]order, error) { return s.records, nil },
		Record: newOrder,
	})
	require.ErrorContains(t, err, "an exactly-once sink stores all of a batch or none: it never uses sink.Stored: 0 records stored: context canceled")
}

func TestBrokenLimitsFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit int // that the suite knows
		write func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error
		want  string
	}{
		"has no limit": {100, func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error {
			fake.Limit = 0
			return fake.Write(ctx, b)
		}, "a batch above Options.Limit is refused: Write succeeded with 101 records"},
		"refuses without TooLarge": {100, func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error {
			if len(b.Records) > 100 {
				return errors.New("413 Content Too Large")
			}
			return fake.Write(ctx, b)
		}, "a batch above Options.Limit is refused with sink.TooLarge: 413"},
		"stores some of a batch that is too large": {100, func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error {
			err := fake.Write(ctx, b)
			if errors.Is(err, sink.ErrTooLarge) {
				b.Records = b.Records[:7]
				_ = fake.Write(ctx, b)
			}
			return err
		}, "sink.TooLarge promises that nothing was stored: stored: 7 records too many"},
		"has a smaller limit": {200, func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error {
			return fake.Write(ctx, b)
		}, "a batch within Options.Limit is not too large: 199 records, the limit is 200"},
		"has a limit that the suite does not know": {0, func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error {
			return fake.Write(ctx, b)
		}, "a batch within Options.Limit is not too large: 1000 records, the limit is 0"},
		"remembers that a batch was too large": {100, func(ctx context.Context, fake *sinktest.Fake[order], b source.Batch[order]) error {
			err := fake.Write(ctx, b)
			if errors.Is(err, sink.ErrTooLarge) {
				fake.Limit = 50
			}
			return err
		}, "after sink.TooLarge a shorter batch with the same From can be written: handle A: too large"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &sinktest.Fake[order]{Refuse: refuse, Limit: 100}
			err := runOn(t, fake, sink.Func[order](func(ctx context.Context, b source.Batch[order]) error { return c.write(ctx, fake, b) }), c.limit)
			require.ErrorContains(t, err, c.want)
			t.Log(err)
		})
	}
	fake := &sinktest.Fake[order]{}
	require.ErrorContains(t, runOn(t, fake, fake, 4), "Options.Limit is 4")
	require.ErrorContains(t, runOn(t, fake, fake, -1), "Options.Limit is -1")
}
