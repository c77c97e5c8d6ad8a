package compare

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// batchSize is how many records are fetched at once.
const batchSize = 5000

// Source returns the records of a source after a cursor, until it has no more. The
// entry of a record that the source cannot make has the Key of its
// [source.BadRecord], and no digest. If the source holds records back, Source waits
// for them. It retries nothing.
func Source[T any](ctx context.Context, src source.Source[T], after source.Cursor, entry func(*T) (Entry, error)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for {
			b, err := src.Fetch(ctx, after, batchSize)
			var bad *source.BadRecord
			switch {
			case errors.Is(err, source.ErrEnd):
				return
			case errors.As(err, &bad):
				if after = bad.To; !yield(Entry{Key: bad.Key}, nil) {
					return
				}
				continue
			case err != nil:
				yield(Entry{}, err)
				return
			}
			for i := range b.Records {
				e, err := entry(&b.Records[i])
				if !yield(e, err) || err != nil {
					return
				}
			}
			if after == b.To && b.Held == nil {
				return
			}
			after = b.To
			if b.Held != nil && !b.More {
				if err := wait(ctx, max(b.Held.Retry, 10*time.Millisecond)); err != nil {
					yield(Entry{}, err)
					return
				}
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
