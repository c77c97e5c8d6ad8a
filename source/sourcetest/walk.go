package sourcetest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/conform"
)

// walked is what a walk from batch to batch found.
type walked[T any] struct {
	texts   []string
	cursors []source.Cursor // behind 0, 1, 2, … records; complete if max was 1
	end     source.Cursor
	err     error // the walk could not go on; the violation is noted

	batches [][]T
	claims  []claim
}

// claim is a batch's word that no record committed before asOf follows.
type claim struct {
	asOf    time.Time
	to      source.Cursor
	records int // delivered when it was given
}

// walk follows To from batch to batch until there are enough records, or, if
// enough is negative, to the end, and checks each batch by itself.
func (s *suite[T]) walk(ctx context.Context, from source.Cursor, max, enough int) *walked[T] {
	w := &walked[T]{end: from, cursors: []source.Cursor{from}}
	seen := map[source.Cursor]bool{from: true}
	var more bool
	var waited time.Duration
	empty := 0
	for enough < 0 || len(w.texts) < enough {
		b, err := s.fetch(ctx, w.end, max)
		if errors.Is(err, source.ErrEnd) {
			s.checkEnd(w, b, more)
			break
		}
		if w.err = s.checkError(ctx, w, err); w.err != nil {
			return w
		}
		s.checkBatch(w, b, max, more)
		if len(b.Records) == 0 && b.To == w.end {
			if b.Held == nil {
				break
			}
			if w.err = s.wait(ctx, &waited, b); w.err != nil {
				return w
			}
			more = false
			continue
		}
		if b.To != w.end && seen[b.To] {
			s.Add("To moves on", "after %q came To %q again", w.end, b.To)
			w.err = errStop
			return w
		}
		if b.To == w.end { // records that would come again for ever
			w.err = errStop
			return w
		}
		seen[b.To] = true
		w.end, more = b.To, b.More
		w.add(s, b)
		if empty++; len(b.Records) > 0 {
			empty = 0
		}
		if w.err = s.checkProgress(w, empty); w.err != nil {
			return w
		}
	}
	s.checkClaims(w)
	s.checkMemory(w)
	return w
}

// wait waits as long as a batch that holds records back asks for, within reason.
func (s *suite[T]) wait(ctx context.Context, waited *time.Duration, b source.Batch[T]) error {
	if *waited > heldFor {
		s.Add("nothing is held back during the test", "after %q, for %v, by %q", b.To, *waited, b.Held.By)
		return errStop
	}
	d := min(b.Held.Retry, heldFor)
	if d <= 0 {
		d = 10 * time.Millisecond
	}
	*waited += d
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		s.Add("the suite runs to its end", "%v", ctx.Err())
		return errStop
	}
}

// maxEmpty is how many batches without records may follow one another.
const maxEmpty = 10_000

// checkProgress finds out a walk that would never end.
func (s *suite[T]) checkProgress(w *walked[T], empty int) error {
	switch known := len(s.o.Expected); {
	case empty > maxEmpty:
		s.Add("To comes to rest where there are no more records", "after %q: %d batches without records in a row, each with a To of its own", w.end, empty)
	case s.o.Expected != nil && len(w.texts) > 2*known:
		s.Add("the records are those expected", "at %q: %d records so far, want %d in all", w.end, len(w.texts), known)
	default:
		return nil
	}
	return errStop
}

func (w *walked[T]) add(s *suite[T], b source.Batch[T]) {
	w.texts = append(w.texts, s.texts(b.Records)...)
	w.batches = append(w.batches, b.Records)
	if len(b.Records) > 0 {
		w.cursors = append(w.cursors, b.To)
	} else {
		w.cursors[len(w.cursors)-1] = b.To // moved past what was left out
	}
	if !b.AsOf.IsZero() {
		w.claims = append(w.claims, claim{b.AsOf, b.To, len(w.texts)})
	}
}

func (s *suite[T]) checkError(ctx context.Context, w *walked[T], err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		s.Add("the suite runs to its end", "%v", ctx.Err())
	case errors.Is(err, io.EOF):
		s.Add("ErrEnd, never io.EOF, ends a source", "Fetch after %q, behind %d records: %v", w.end, len(w.texts), err)
	case errors.Is(err, conform.ErrStuck), errors.Is(err, conform.ErrPanic): // noted
	default:
		s.Add("Fetch succeeds while nothing is wrong", "Fetch after %q, behind %d records: %v", w.end, len(w.texts), err)
	}
	return errStop
}

func (s *suite[T]) checkEnd(w *walked[T], b source.Batch[T], more bool) {
	if len(b.Records) > 0 || b.To != "" && b.To != w.end {
		s.Add("ErrEnd comes with an empty batch", "Fetch after %q: %d records, To %q", w.end, len(b.Records), b.To)
	}
	if more {
		s.Add("More says that the next Fetch has records", "Fetch after %q returned ErrEnd", w.end)
	}
}

func (s *suite[T]) checkBatch(w *walked[T], b source.Batch[T], max int, more bool) {
	n := len(b.Records)
	if b.From != w.end {
		s.Add("From is the cursor given", "Fetch after %q: From is %q", w.end, b.From)
	}
	if n > max {
		s.Add("a batch has at most max records", "Fetch after %q, max %d: %d records", w.end, max, n)
	}
	if n > 0 && b.To == w.end {
		s.Add("To differs from From if there are records", "Fetch after %q: %d records and the same To", w.end, n)
	}
	if b.To == "" && w.end != "" {
		s.Add("To is never the cursor before the first record", "Fetch after %q: To is empty", w.end)
	}
	if err := b.To.Validate(); err != nil {
		s.Add("a cursor is printable ASCII, 8 KiB at most", "Fetch after %q: %v", w.end, err)
	}
	if b.Bytes < 0 {
		s.Add("Bytes is not negative", "Fetch after %q: %d", w.end, b.Bytes)
	}
	if more && n == 0 && b.To == w.end && b.Held == nil {
		s.Add("More says that the next Fetch has records", "Fetch after %q had none", w.end)
	}
	if b.Held != nil && b.Held.Since.IsZero() {
		s.Add("Held says since when", "Fetch after %q: Since is zero", w.end)
	}
}

// checkClaims relies on all records being older than the test.
func (s *suite[T]) checkClaims(w *walked[T]) {
	for _, c := range w.claims {
		if c.records < len(w.texts) && c.asOf.After(s.began) {
			s.Add("every record committed before AsOf is at or before To",
				"To %q with AsOf %v, after the test began, and %d older records followed", c.to, c.asOf, len(w.texts)-c.records)
		}
	}
}

// checkMemory looks at all records again, then overwrites them: the source must
// neither have touched them nor be touched by that. Walks that follow would find
// the damage.
func (s *suite[T]) checkMemory(w *walked[T]) {
	i := 0
	for _, records := range w.batches {
		for _, text := range s.texts(records) {
			if text != w.texts[i] {
				s.Add("the source never touches a batch's memory again", "record %d was %s and is %s after later fetches", i, w.texts[i], text)
			}
			i++
		}
	}
	for _, records := range w.batches {
		clear(records[:cap(records)])
	}
}
