package sourcetest

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/source"
)

// walked is the result of a walk from batch to batch.
type walked[T any] struct {
	texts   []string
	cursors []source.Cursor // after 0, 1, 2, … records; complete if the limit was 1
	end     source.Cursor
	bad     []string // the keys of the records that cannot be made

	batches [][]T
	claims  []claim
}

// claim is the statement of a batch that no record committed before asOf
// follows.
type claim struct {
	asOf    time.Time
	to      source.Cursor
	records int // delivered so far
}

// walk follows To from batch to batch until there are enough records, or to the
// end if enough is negative, and checks each batch. It stops the suite if it
// cannot go on.
func (s *suite[T]) walk(from source.Cursor, limit, enough int) *walked[T] {
	w := &walked[T]{end: from, cursors: []source.Cursor{from}}
	seen := map[source.Cursor]bool{from: true}
	var more bool
	var waited time.Duration
	empty := 0
	for enough < 0 || len(w.texts) < enough {
		b, err := s.fetch(s.Ctx, w.end, limit)
		if errors.Is(err, source.ErrEnd) {
			s.checkEnd(w, b, more)
			break
		}
		var bad *source.BadRecord
		if errors.As(err, &bad) {
			s.checkBad(w, bad)
			b = source.Batch[T]{From: w.end, To: bad.To}
		} else {
			s.checkError(w, err)
			s.checkBatch(w, b, limit, more)
		}
		if len(b.Records) == 0 && b.To == w.end {
			if b.Held == nil {
				break
			}
			waited += s.wait(waited, b)
			more = false
			continue
		}
		s.checkMoves(w, b, seen)
		seen[b.To] = true
		w.end, more = b.To, b.More
		w.add(s, b)
		if empty++; len(b.Records) > 0 {
			empty = 0
		}
		s.checkProgress(w, empty)
	}
	s.checkClaims(w)
	s.checkMemory(w, from, limit)
	return w
}

// wait waits as long as a batch that holds records back asks for, up to heldFor
// in all, and returns how long that was.
func (s *suite[T]) wait(waited time.Duration, b source.Batch[T]) time.Duration {
	if waited > heldFor {
		s.Stop("nothing is held back during the test", "after %q, for %v, by %q", b.To, waited, b.Held.By)
	}
	d := min(b.Held.Retry, heldFor)
	if d <= 0 {
		d = 10 * time.Millisecond
	}
	select {
	case <-time.After(d):
	case <-s.Ctx.Done():
		s.Stop("the suite runs to its end", "%v", s.Ctx.Err())
	}
	return d
}

// checkMoves stops a walk that would go round in circles.
func (s *suite[T]) checkMoves(w *walked[T], b source.Batch[T], seen map[source.Cursor]bool) {
	switch {
	case b.To == w.end:
		s.Stop("To differs from From if there are records", "Fetch after %q: %d records and the same To", w.end, len(b.Records))
	case seen[b.To]:
		s.Stop("To moves on", "after %q came To %q again", w.end, b.To)
	}
}

// maxEmpty is how many batches without records may come in a row.
const maxEmpty = 10_000

// checkProgress stops a walk that would never end.
func (s *suite[T]) checkProgress(w *walked[T], empty int) {
	switch known := len(s.o.Expected); {
	case empty > maxEmpty:
		s.Stop("To stays the same after the last record", "after %q: %d batches without records in a row, each with another To", w.end, empty)
	case s.o.Expected != nil && len(w.texts) > 2*known:
		s.Stop("the records are those expected", "at %q: %d records so far, want %d in all", w.end, len(w.texts), known)
	}
}

func (w *walked[T]) add(s *suite[T], b source.Batch[T]) {
	w.texts = append(w.texts, conform.Texts(b.Records, s.o.Text)...)
	w.batches = append(w.batches, b.Records)
	if len(b.Records) > 0 {
		w.cursors = append(w.cursors, b.To)
	} else {
		w.cursors[len(w.cursors)-1] = b.To // moved past records that were left out
	}
	if !b.AsOf.IsZero() {
		w.claims = append(w.claims, claim{b.AsOf, b.To, len(w.texts)})
	}
}

// checkBad checks the error of a record that cannot be made. A walk goes on after it.
func (s *suite[T]) checkBad(w *walked[T], bad *source.BadRecord) {
	switch {
	case bad.Key == "":
		s.Add("a BadRecord names its key", "Fetch after %q", w.end)
	case slices.Contains(w.bad, bad.Key):
		s.Add("each record that cannot be made is reported once, as a BadRecord", "Fetch after %q: %s again", w.end, bad.Key)
	}
	if bad.Err == nil {
		s.Stop("a BadRecord says why", "Fetch after %q: Err is nil", w.end)
	}
	if err := bad.To.Validate(); err != nil || bad.To == "" || bad.To == w.end {
		s.Stop("the To of a BadRecord is the cursor after it", "Fetch after %q: To is %s", w.end, conform.Short(bad.To))
	}
	w.bad = append(w.bad, bad.Key)
}

func (s *suite[T]) checkError(w *walked[T], err error) {
	switch {
	case err == nil:
	case s.Ctx.Err() != nil:
		s.Stop("the suite runs to its end", "%v", s.Ctx.Err())
	case errors.Is(err, io.EOF):
		s.Stop("ErrEnd, never io.EOF, ends a source", "Fetch after %q, after %d records: %v", w.end, len(w.texts), err)
	default:
		s.Stop("Fetch succeeds while nothing is wrong", "Fetch after %q, after %d records: %v", w.end, len(w.texts), err)
	}
}

func (s *suite[T]) checkEnd(w *walked[T], b source.Batch[T], more bool) {
	if len(b.Records) > 0 || b.To != "" && b.To != w.end {
		s.Add("ErrEnd comes with an empty batch", "Fetch after %q: %d records, To %q", w.end, len(b.Records), b.To)
	}
	if more {
		s.Add("More says that the next Fetch has records", "Fetch after %q returned ErrEnd", w.end)
	}
}

func (s *suite[T]) checkBatch(w *walked[T], b source.Batch[T], limit int, more bool) {
	n := len(b.Records)
	if b.From != w.end {
		s.Add("From is the cursor given", "Fetch after %q: From is %q", w.end, b.From)
	}
	if n > limit {
		s.Add("a batch has at most limit records", "Fetch after %q, limit %d: %d records", w.end, limit, n)
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

// checkMemory compares all records once more and then overwrites them: the source
// must not have changed them, and must not depend on them.
func (s *suite[T]) checkMemory(w *walked[T], from source.Cursor, limit int) {
	i := 0
	for _, records := range w.batches {
		for _, text := range conform.Texts(records, s.o.Text) {
			if text != w.texts[i] {
				s.Add("the source never touches a batch's memory again", "record %d was %s and is %s after later fetches", i, w.texts[i], text)
			}
			i++
		}
	}
	var zero []bool // before they are overwritten
	for _, records := range w.batches {
		for _, r := range records {
			zero = append(zero, isZero(r))
		}
		clear(records[:cap(records)])
	}
	b, err := s.fetch(s.Ctx, from, limit)
	if err != nil {
		return
	}
	for i, r := range b.Records[:min(len(b.Records), len(zero))] {
		if isZero(r) && !zero[i] {
			s.Stop("the receiver may change a batch's records",
				"Fetch after %q: record %d was %s, and is zero since the suite cleared the batch", from, i, w.texts[i])
		}
	}
}

func isZero[T any](record T) bool { return reflect.ValueOf(&record).Elem().IsZero() }
