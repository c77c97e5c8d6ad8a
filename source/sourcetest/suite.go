package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/source"
)

// Options say what [TestSource] tests.
type Options[T any] struct {
	// Open opens the source. It is called more than once, as when a process
	// starts again, and must open the same records with the same cursors. It may
	// return the same source each time. The caller closes what must be closed
	// after the test.
	Open func(ctx context.Context) (source.Source[T], error)

	// Expected holds all records of the source, in order. If it is nil, the
	// records are unknown, and there must be at least AtLeast. The suite needs at
	// least three records. Use about ten, with no two equal neighbours.
	Expected []T
	AtLeast  int

	// Bad is how many records the source cannot make, see [source.BadRecord]. They
	// are not among the Expected ones.
	Bad int

	// Start is the cursor to begin with, usually the empty one.
	Start source.Cursor

	// Text renders a record. Two records are the same if their texts are equal.
	// Defaults to JSON; fields that encoding/json leaves out are not compared.
	Text func(T) string

	// Foreign holds cursors that the source must refuse, such as one of another
	// query of the same kind. A few that fit no source are always tried.
	Foreign []source.Cursor
}

// heldFor is how long TestSource waits for records that are held back.
const heldFor = 30 * time.Second

// largestLimit is the largest limit that is tried. It is larger than any in use, and
// small enough for a source that allocates memory for it.
const largestLimit = 100_000

// TestSource checks a source against every sentence of [source.Source] that can
// be checked from outside. It returns an error that names each one broken, or
// nil. The source must not change during the test. TestSource fetches about ten
// times the number of records.
//
//	err := sourcetest.TestSource(t.Context(), sourcetest.Options[Order]{Open: open, Expected: orders})
func TestSource[T any](ctx context.Context, o Options[T]) error {
	if o.Open == nil {
		return errors.New("sourcetest: Options.Open is not set")
	}
	if o.Text == nil {
		o.Text = conform.JSON[T]
	}
	src, err := o.Open(ctx)
	if err != nil {
		return fmt.Errorf("sourcetest: Open: %w", err)
	}
	if src == nil {
		return errors.New("sourcetest: Options.Open returned neither a source nor an error")
	}
	return conform.Run(ctx, "sourcetest", func(c *conform.Suite) {
		s := &suite[T]{Suite: c, o: o, src: src, began: time.Now()}
		s.run()
	})
}

type suite[T any] struct {
	*conform.Suite
	o     Options[T]
	src   source.Source[T]
	began time.Time

	all     []string        // the texts of all records, in order
	cursors []source.Cursor // cursors[i] is after i records; found with limit 1
	end     source.Cursor
	bad     []string // the keys of the records that cannot be made
}

func (s *suite[T]) run() {
	s.learn()
	for _, limit := range []int{1, 2, 3, 7, len(s.all) - 1, len(s.all), len(s.all) + 1, largestLimit} {
		s.sameWalk(limit)
	}
	s.repeat()
	s.atTheEnd()
	s.foreign()
	s.cancelled()
	src, err := s.o.Open(s.Ctx)
	if err != nil {
		s.Stop("a source can be opened again", "%v", err)
	}
	s.src = src
	s.repeat()
	s.atTheEnd()
}

// learn reads everything once, with limit 1, which finds every cursor.
func (s *suite[T]) learn() {
	w := s.walk(s.o.Start, 1, -1)
	s.all, s.cursors, s.end = w.texts, w.cursors, w.end
	if s.o.Expected != nil {
		want := conform.Texts(s.o.Expected, s.o.Text)
		if diff := conform.Difference(s.all, want); diff != "" {
			s.Add("the records are those expected", "with limit 1: %s", diff)
			s.all = want // compare the walks that follow with the expected records
		}
	}
	if len(w.bad) != s.o.Bad {
		s.Add("each record that cannot be made is reported once, as a BadRecord", "got %d, want %d: %q", len(w.bad), s.o.Bad, w.bad)
	}
	s.bad = w.bad
	if need := max(3, s.o.AtLeast); len(s.all) < need {
		s.Stop("there are enough records to test with", "got %d, need %d", len(s.all), need)
	}
}

// sameWalk reads everything with another limit.
func (s *suite[T]) sameWalk(limit int) {
	w := s.walk(s.o.Start, limit, -1)
	if diff := conform.Difference(w.texts, s.all); diff != "" {
		s.Add("every limit yields every record once, in the same order", "with limit %d: %s", limit, diff)
	}
	if !slices.Equal(w.bad, s.bad) {
		s.Add("every limit yields the same bad records", "with limit %d: %q, want %q", limit, w.bad, s.bad)
	}
}

// repeat goes back to cursors in mixed order and reads a few records from each.
func (s *suite[T]) repeat() {
	if len(s.cursors) != len(s.all)+1 {
		return // noted already
	}
	for k := range min(len(s.cursors), 40) {
		i := (k * 7919) % len(s.cursors) // a prime: back and forth, and all of them if there are few
		want := s.all[i:min(i+4, len(s.all))]
		w := s.walk(s.cursors[i], 1+k%5, len(want))
		if got := w.texts[:min(len(want), len(w.texts))]; !slices.Equal(got, want) {
			s.Add("Fetch can be repeated: one cursor yields the same records again",
				"after %q, after %d records: %s", s.cursors[i], i, conform.Difference(got, want))
		}
	}
}

// atTheEnd asks for more after the last record.
func (s *suite[T]) atTheEnd() {
	var ended bool
	for i, limit := range []int{1, 100, 1} {
		b, err := s.fetch(s.Ctx, s.end, limit)
		switch {
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
}

func (s *suite[T]) foreign() {
	tried := append([]source.Cursor{
		"~ no cursor of any source ~", "\x00", "cursor\n", "\xff\xfe",
		source.Cursor(strings.Repeat("x", source.MaxCursor+1)),
		s.end + "~",
	}, s.o.Foreign...)
	for _, c := range tried {
		b, err := s.fetch(s.Ctx, c, 2)
		switch {
		case err == nil:
			s.Add("a cursor that the source did not make is an error", "Fetch after %s: %d records and no error", conform.Short(c), len(b.Records))
		case errors.Is(err, source.ErrEnd), errors.Is(err, io.EOF):
			s.Add("a cursor that the source did not make is neither ErrEnd nor io.EOF", "Fetch after %s: %v", conform.Short(c), err)
		}
	}
}

// cancelled calls with a context that has ended, and with one that ends at each
// check of it in turn.
func (s *suite[T]) cancelled() {
	ended, cancel := context.WithCancel(s.Ctx)
	cancel()
	for _, c := range []source.Cursor{s.o.Start, s.end} {
		if _, err := s.fetch(ended, c, 2); err == nil {
			s.Add("Fetch honours its context", "after %q, with a context that has ended: no error", c)
		}
	}
	for n, trip := range conform.Trips(20) {
		b, err := conform.Call(s.Ctx, func(ctx context.Context) (source.Batch[T], error) {
			return s.src.Fetch(trip.On(ctx), s.o.Start, 3)
		})
		s.watch(s.o.Start, err)
		got := conform.Texts(b.Records, s.o.Text)
		want := s.all[:min(len(got), len(s.all))]
		if err == nil && !slices.Equal(got, want) {
			s.Add("a fetch that is interrupted returns an error or the right records",
				"context ended at check %d: %s", n, conform.Difference(got, want))
		}
	}
	w := s.walk(s.o.Start, 2, 2)
	if !slices.Equal(w.texts[:min(2, len(w.texts))], s.all[:2]) {
		s.Add("after an error any later call may succeed", "after an interrupted fetch: %s", conform.Difference(w.texts, s.all[:2]))
	}
}

func (s *suite[T]) fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	b, err := conform.Call(ctx, func(ctx context.Context) (source.Batch[T], error) {
		return s.src.Fetch(ctx, after, limit)
	})
	s.watch(after, err)
	return b, err
}

// watch stops the suite if a Fetch is stuck or has panicked.
func (s *suite[T]) watch(after source.Cursor, err error) {
	if err != nil {
		s.Watch("Fetch", fmt.Errorf("Fetch after %s: %w", conform.Short(after), err))
	}
}
