package sourcetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest/conform"
)

// Options say what [TestSource] tests.
type Options[T any] struct {
	// Open opens the source. It is called more than once, for the same
	// records, as when a process starts again: cursors must survive that. It
	// may return the same source each time. What must be closed, the caller
	// closes after the test.
	Open func(ctx context.Context) (source.Source[T], error)

	// Expected are all records of the source, in order. If nil, they are not
	// known, and there must be at least AtLeast. The suite needs three records
	// to show anything; around ten, without equal neighbours, are good.
	Expected []T
	AtLeast  int

	// Start is the cursor to begin with. The empty cursor is the usual one.
	Start source.Cursor

	// Text renders a record: two are the same if their texts are. nil renders
	// JSON, which leaves out what encoding/json leaves out.
	Text func(T) string

	// Foreign are cursors the source must refuse, such as one of another query
	// of the same kind. A few that fit no source are tried in any case.
	Foreign []source.Cursor
}

// heldFor is how long TestSource waits for records that are held back.
const heldFor = 30 * time.Second

// maxMax is the largest max tried. It is more than anyone asks for and not so
// much that a source which allocates for it hurts.
const maxMax = 100_000

// TestSource checks a source against every sentence of [source.Source] that can
// be checked from outside, and returns an error that names each one broken, or
// nil. The source must not change meanwhile. It fetches about ten times the
// number of records.
//
//	err := sourcetest.TestSource(t.Context(), sourcetest.Options[Order]{Open: open, Expected: orders})
func TestSource[T any](ctx context.Context, o Options[T]) error {
	if o.Open == nil {
		return errors.New("sourcetest: Options.Open is not set")
	}
	if o.Text == nil {
		o.Text = jsonText[T]
	}
	s := &suite[T]{Violations: conform.Violations{Suite: "sourcetest"}, o: o, began: time.Now()}
	if err := s.open(ctx); err != nil {
		return err
	}
	s.run(ctx)
	return s.Err()
}

func jsonText[T any](r T) string {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Sprintf("%T without JSON: %v; set Options.Text", r, err)
	}
	return string(b)
}

type suite[T any] struct {
	conform.Violations
	o     Options[T]
	src   source.Source[T]
	began time.Time

	all     []string        // the texts of all records, in order
	cursors []source.Cursor // cursors[i] is behind i records: found with max 1
	end     source.Cursor
}

// errStop ends the suite after a violation that leaves nothing more to test. The
// violation itself is noted already.
var errStop = errors.New("stop")

func (s *suite[T]) open(ctx context.Context) error {
	src, err := s.o.Open(ctx)
	if err != nil {
		return fmt.Errorf("sourcetest: Open: %w", err)
	}
	s.src = src
	return nil
}

func (s *suite[T]) run(ctx context.Context) {
	if s.learn(ctx) != nil {
		return
	}
	for _, max := range []int{1, 2, 3, 7, len(s.all) - 1, len(s.all), len(s.all) + 1, maxMax} {
		if s.sameWalk(ctx, max) != nil {
			return
		}
	}
	if s.repeat(ctx) != nil || s.atTheEnd(ctx) != nil || s.foreign(ctx) != nil || s.cancelled(ctx) != nil {
		return
	}
	if err := s.open(ctx); err != nil {
		s.Add("a source can be opened again", "%v", err)
		return
	}
	if s.repeat(ctx) == nil {
		_ = s.atTheEnd(ctx)
	}
}

// learn reads everything once, with max 1, which finds every cursor there is.
func (s *suite[T]) learn(ctx context.Context) error {
	w := s.walk(ctx, s.o.Start, 1, -1)
	if w.err != nil {
		return w.err
	}
	s.all, s.cursors, s.end = w.texts, w.cursors, w.end
	if s.o.Expected != nil {
		want := make([]string, len(s.o.Expected))
		for i, r := range s.o.Expected {
			want[i] = s.o.Text(r)
		}
		if diff := difference(s.all, want); diff != "" {
			s.Add("the records are those expected", "with max 1: %s", diff)
			s.all = want // the walks that follow are compared with the truth
		}
	}
	if need := max(3, s.o.AtLeast); len(s.all) < need {
		s.Add("there are enough records to test with", "got %d, need %d", len(s.all), need)
		return errStop
	}
	s.end = w.end
	return nil
}

// sameWalk reads everything with another max.
func (s *suite[T]) sameWalk(ctx context.Context, max int) error {
	w := s.walk(ctx, s.o.Start, max, -1)
	if w.err != nil {
		return w.err
	}
	if diff := difference(w.texts, s.all); diff != "" {
		s.Add("every max yields every record once, in the same order", "with max %d: %s", max, diff)
	}
	return nil
}

// repeat goes back to cursors in no order and reads a little from each.
func (s *suite[T]) repeat(ctx context.Context) error {
	const rule = "Fetch can be repeated: one cursor yields the same records again"
	if len(s.cursors) != len(s.all)+1 {
		return nil // told already
	}
	for k := range min(len(s.cursors), 40) {
		i := (k * 7919) % len(s.cursors) // a prime: back and forth, all of them if few
		want := s.all[i:min(i+4, len(s.all))]
		w := s.walk(ctx, s.cursors[i], 1+k%5, len(want))
		if w.err != nil {
			return w.err
		}
		if got := w.texts[:min(len(want), len(w.texts))]; !slices.Equal(got, want) {
			s.Add(rule, "after %q, behind %d records: %s", s.cursors[i], i, difference(got, want))
		}
	}
	return nil
}

// atTheEnd asks for more where there is none.
func (s *suite[T]) atTheEnd(ctx context.Context) error {
	var ended bool
	for i, max := range []int{1, 100, 1} {
		b, err := s.fetch(ctx, s.end, max)
		switch {
		case errors.Is(err, conform.ErrStuck):
			return err
		case errors.Is(err, conform.ErrPanic):
		case errors.Is(err, source.ErrEnd):
			ended = true
		case err != nil:
			s.Add("the end is an empty batch or ErrEnd", "Fetch after %q: %v", s.end, err)
		case len(b.Records) > 0 || b.To != s.end:
			s.Add("at the end a batch is empty and To equals From", "Fetch after %q: %d records, To %q", s.end, len(b.Records), b.To)
		case ended:
			s.Add("ErrEnd stays", "call %d after %q returned an empty batch after ErrEnd", i+1, s.end)
		}
	}
	return nil
}

func (s *suite[T]) foreign(ctx context.Context) error {
	tried := append([]source.Cursor{
		"~ no cursor of any source ~", "\x00", "cursor\n", "\xff\xfe",
		source.Cursor(strings.Repeat("x", source.MaxCursor+1)),
		s.end + "~",
	}, s.o.Foreign...)
	for _, c := range tried {
		b, err := s.fetch(ctx, c, 2)
		switch {
		case errors.Is(err, conform.ErrStuck):
			return err
		case err == nil:
			s.Add("a cursor that the source did not make is an error", "Fetch after %s: %d records and no error", short(c), len(b.Records))
		case errors.Is(err, source.ErrEnd), errors.Is(err, io.EOF):
			s.Add("a cursor that the source did not make is an error of its own", "Fetch after %s: %v", short(c), err)
		}
	}
	return nil
}

// cancelled calls with a context that has ended, and with one that ends wherever
// the source looks at it.
func (s *suite[T]) cancelled(ctx context.Context) error {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []source.Cursor{s.o.Start, s.end} {
		if _, err := s.fetch(gone, c, 2); errors.Is(err, conform.ErrStuck) {
			return err
		} else if err == nil {
			s.Add("Fetch honours its context", "after %q, with a context that has ended: no error", c)
		}
	}
	for n := 1; n <= 20; n++ {
		var tripped func() bool
		b, err := s.call(ctx, s.o.Start, func(ctx context.Context) (source.Batch[T], error) {
			trip, asked, cancel := conform.Trip(ctx, n)
			defer cancel()
			tripped = asked
			return s.src.Fetch(trip, s.o.Start, 3)
		})
		if errors.Is(err, conform.ErrStuck) {
			return err
		}
		got := s.texts(b.Records)
		want := s.all[:min(len(got), len(s.all))]
		if err == nil && !slices.Equal(got, want) {
			s.Add("a fetch that is interrupted returns an error or what it should",
				"context ended at look %d: %s", n, difference(got, want))
		}
		if !tripped() {
			break
		}
	}
	w := s.walk(ctx, s.o.Start, 2, 2)
	if w.err == nil && !slices.Equal(w.texts[:min(2, len(w.texts))], s.all[:2]) {
		s.Add("after an error any later call may succeed", "after an interrupted fetch: %s", difference(w.texts, s.all[:2]))
	}
	return w.err
}

func (s *suite[T]) texts(records []T) []string {
	texts := make([]string, len(records))
	for i, r := range records {
		texts[i] = strings.Clone(s.o.Text(r)) // it may point into memory that is used again
	}
	return texts
}

func (s *suite[T]) fetch(ctx context.Context, after source.Cursor, max int) (source.Batch[T], error) {
	return s.call(ctx, after, func(ctx context.Context) (source.Batch[T], error) {
		return s.src.Fetch(ctx, after, max)
	})
}

// call watches one call. Its error is the source's, or wraps conform.ErrStuck
// or ErrPanic and is noted.
func (s *suite[T]) call(ctx context.Context, after source.Cursor, f func(context.Context) (source.Batch[T], error)) (source.Batch[T], error) {
	b, err := conform.Call(ctx, f)
	if errors.Is(err, conform.ErrStuck) {
		s.Add("Fetch returns soon after its context ends", "Fetch after %s: %v", short(after), err)
	}
	if errors.Is(err, conform.ErrPanic) {
		s.Add("Fetch does not panic", "Fetch after %s: %v", short(after), err)
	}
	return b, err
}

// short quotes a cursor for a message.
func short(c source.Cursor) string {
	if len(c) > 100 {
		return fmt.Sprintf("%q… (%d bytes)", c[:100], len(c))
	}
	return fmt.Sprintf("%q", c)
}

// difference says where got and want part, or "".
func difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d records, missing from %s on, the last %d of %d", len(got), want[i], len(want)-i, len(want))
		case i >= len(want):
			return fmt.Sprintf("%d records too many, from %s on", len(got)-i, got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("record %d is %s, want %s", i, got[i], want[i])
		}
	}
	return ""
}
