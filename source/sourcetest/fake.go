// Package sourcetest helps to test sources and the code that uses them: [Fake] is
// a source in memory, and [TestSource] checks a source against the contract of
// package source.
package sourcetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/fault"
)

// Fake is a source in memory. It delivers the records appended to it, in that
// order. The zero value is an empty source that never ends. A Fake must not be
// copied after first use and is safe for concurrent use: a test may append while
// a Poller reads.
//
// A cursor is the number of records read, such as "7". The methods of the
// embedded Injector make calls fail. Fetch copies records by assignment, so it
// shares the values that their pointers point to.
type Fake[T any] struct {
	fault.Injector

	// Bad, if set, returns why the source cannot make a record, or nil. Fetch then
	// returns a [source.BadRecord] for it, whose Key is its number, from 1.
	Bad func(T) error

	mu      sync.Mutex
	records []T
	held    *source.Held
	ceiling int // how many records may be delivered while held is set
	ended   bool
}

// Append adds records at the end.
func (f *Fake[T]) Append(records ...T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records = append(f.records, records...)
}

// Hold holds back all records appended after the call, until [Fake.Release], like
// rows after those of a transaction that is still open. Fetch then reports h; a
// zero h.Since is set to the current time.
func (f *Fake[T]) Hold(h source.Held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.Since.IsZero() {
		h.Since = time.Now()
	}
	f.held, f.ceiling = &h, len(f.records)
}

// Release delivers the records that were held back.
func (f *Fake[T]) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = nil
}

// End makes the source finite: after its last record Fetch returns
// [source.ErrEnd].
func (f *Fake[T]) End() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

// At returns the cursor after the first n records.
func (f *Fake[T]) At(n int) source.Cursor {
	if n == 0 {
		return ""
	}
	return source.Cursor(strconv.Itoa(n))
}

// Fetch returns at most limit records after the cursor. See [source.Source].
func (f *Fake[T]) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	var b source.Batch[T]
	err := f.Do(ctx, fault.Call{Op: "Fetch", From: after, Limit: limit}, func(c *fault.Call) (err error) {
		b, err = f.fetch(after, limit)
		c.To, c.Records = b.To, len(b.Records)
		return err
	})
	if err != nil {
		return source.Batch[T]{From: after, To: after}, err
	}
	return b, nil
}

func (f *Fake[T]) fetch(after source.Cursor, limit int) (source.Batch[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := source.Batch[T]{From: after, To: after}
	from, err := f.position(after)
	if err != nil {
		return b, err
	}
	if limit < 1 {
		return b, fmt.Errorf("sourcetest: limit is %d and must be at least 1", limit)
	}
	top := len(f.records)
	if ceiling := max(f.ceiling, from); f.held != nil && ceiling < top {
		top = ceiling
		held := *f.held
		held.By = slices.Clone(held.By)
		b.Held = &held
	}
	to := min(top, from+limit)
	for i, r := range f.records[from:to] {
		if err := f.bad(r); err != nil {
			if to = from + i; i == 0 {
				return b, &source.BadRecord{Key: "record " + strconv.Itoa(to+1), To: f.At(to + 1), Err: err}
			}
			break
		}
	}
	b.To = f.At(to)
	b.Records = slices.Clone(f.records[from:to])
	b.More = to < top
	if to < top {
		return b, nil
	}
	if b.Held != nil {
		b.AsOf = b.Held.Since
	} else {
		b.AsOf = time.Now()
		if f.ended && from == to {
			return b, source.ErrEnd
		}
	}
	return b, nil
}

func (f *Fake[T]) bad(r T) error {
	if f.Bad == nil {
		return nil
	}
	return f.Bad(r)
}

// position parses a cursor strictly: it must be one that At returns, and not
// after the last record.
func (f *Fake[T]) position(c source.Cursor) (int, error) {
	if c == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(string(c))
	if err != nil || n < 1 || f.At(n) != c {
		return 0, fmt.Errorf("sourcetest: %q is not a cursor of this source", c)
	}
	if n > len(f.records) {
		return 0, fmt.Errorf("sourcetest: cursor %q is after the last of %d records", c, len(f.records))
	}
	return n, nil
}
