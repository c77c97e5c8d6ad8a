package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
)

// Source reads the records of letters, oldest first, each ID once. Set its fields,
// then pass it to a Poller. It must not be copied after first use.
//
// A letter whose record cannot be read is a [*source.BadRecord]: without a
// DeadLetter it ends the Poller, which names the letter.
type Source[T any] struct {
	// Dir is the directory of the letters. It is required.
	Dir string

	// Refetch is the source of the pipeline that wrote the letters. It reads again
	// the records of letters that have none, or an inexact one. Without it, such a
	// letter is a BadRecord. So is one that has no JSON and whose record the sink named
	// with sink.Stored, as sink.Each does: nothing shows that it is still that record.
	Refetch source.Source[T]

	// Gone is called for a letter that is skipped because Refetch no longer has
	// its record. It may be called again for the same letter. It may be nil.
	Gone func(Letter)

	// Only selects letters by their IDs. The others are skipped. Each selection
	// needs a separate checkpoint: Fetch refuses the cursor of another selection, which
	// has passed letters that were not selected. Defaults to all letters.
	Only []string

	mu    sync.Mutex
	label string          // of cursors
	at    position        // up to which seen is complete
	seen  map[string]bool // IDs
}

// maxBytes ends a batch: the next record begins another one.
const maxBytes = 8 << 20

// Fetch returns the records of the letters after a cursor, decoded from
// [Letter].Record by encoding/json. A batch ends after 8 MB. A cursor of a directory
// that was cleared or replaced since is a permanent error, see [retry.Permanent].
func (s *Source[T]) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := source.Batch[T]{From: after, To: after}
	if ctx.Err() != nil {
		return b, fmt.Errorf("deadletter: %w", context.Cause(ctx))
	}
	c, err := contents(s.Dir)
	if err != nil {
		return b, err
	}
	s.label = labelOf(c, s.Only)
	at, err := s.seek(c.Parts, after)
	if err != nil {
		return b, err
	}
	for f, err := range scan(c.Parts, at) {
		if err == nil && (s.seen[f.letter.ID] || s.Only != nil && !slices.Contains(s.Only, f.letter.ID)) {
			b.To = s.pass(f)
			continue
		}
		if len(b.Records) == limit || b.Bytes >= maxBytes {
			b.More = true
			break
		}
		record, size, err := s.record(ctx, f, err)
		if bad := (*source.BadRecord)(nil); errors.As(err, &bad) && b.To != after {
			b.More = true // the record is the error of the next Fetch
			break
		}
		if err != nil {
			return b, err
		}
		b.To = s.pass(f)
		if size > 0 {
			b.Records = append(b.Records, record)
			b.Bytes += size
		}
	}
	return b, nil
}

// seek returns the position of a cursor. It makes s.seen complete up to there.
func (s *Source[T]) seek(parts []filesink.Part, after source.Cursor) (position, error) {
	at, err := parseCursor(after, s.label)
	if err != nil || s.seen != nil && s.at == at {
		return at, err
	}
	s.seen, s.at = map[string]bool{}, position{}
	for f, err := range scan(parts, position{}) {
		if err != nil && f.next == (position{}) {
			return at, err
		}
		if f.next.after(at) {
			break
		}
		s.pass(f)
	}
	s.at = at
	return at, nil
}

// pass moves past a letter and returns the cursor after it.
func (s *Source[T]) pass(f found) source.Cursor {
	s.at = f.next
	if f.letter.ID != "" {
		s.seen[f.letter.ID] = true
	}
	return f.next.cursor(s.label)
}

// record returns the record of a letter, or the error of a scan as one that the
// Poller can move past. The size is 0 if the record no longer exists.
func (s *Source[T]) record(ctx context.Context, f found, err error) (record T, size int, _ error) {
	l, to := f.letter, f.next.cursor(s.label)
	bad := func(err error) error {
		return &source.BadRecord{Key: fmt.Sprintf("letter %s %s", l.ID, l.Key), To: to, Err: err}
	}
	switch {
	case err != nil && f.next == (position{}):
		return record, 0, err
	case err != nil:
		return record, 0, &source.BadRecord{Key: "position " + string(to), To: to, Err: err}
	case l.Record != nil && !l.Inexact:
		if err := json.Unmarshal(l.Record, &record); err != nil {
			return record, 0, bad(fmt.Errorf("its record does not fit into %T", record)) // the text of err may contain values
		}
		return record, len(l.Record), nil
	case s.Refetch == nil && l.Inexact:
		return record, 0, bad(errors.New("its JSON does not have all of the record: set Source.Refetch"))
	case s.Refetch == nil:
		return record, 0, bad(errors.New("it has no record: set Source.Refetch"))
	}
	return s.refetch(ctx, l, bad)
}

// refetch reads the record of a letter from the pipeline's source. Another record
// may have taken its place: the key tells, the cursor after it, or its JSON.
func (s *Source[T]) refetch(ctx context.Context, l Letter, bad func(error) error) (record T, size int, _ error) {
	b, err := s.fetchLast(ctx, l.From, l.Index+1)
	key, still := b.Position, (*source.BadRecord)(nil)
	if errors.As(err, &still) {
		key, b.To = still.Key, still.To
	} else if err != nil {
		return record, 0, fmt.Errorf("deadletter: read the record of letter %s again: %w", l.ID, err)
	}
	switch {
	case still == nil && len(b.Records) == 0, l.Key != "" && key != "" && key != l.Key:
		if s.Gone != nil {
			s.Gone(l)
		}
		return record, 0, nil
	case b.To != l.To && (l.Key == "" || key != l.Key) && (still != nil || !equal(b.Records[len(b.Records)-1], l)):
		return record, 0, bad(errors.New("Refetch may have another record in its place"))
	case still != nil:
		return record, 0, bad(still.Err)
	}
	return b.Records[len(b.Records)-1], max(1, b.Bytes), nil
}

// equal reports whether the JSON of a record is that of the letter. To of a letter whose
// record the sink named is the cursor after a batch, which proves nothing.
func equal[T any](record T, l Letter) bool {
	text, err := encode(record)
	return err == nil && bytes.Equal(text, l.Record)
}

// fetchLast returns the batch that ends with record n after a cursor. It has no
// records if there are not so many.
func (s *Source[T]) fetchLast(ctx context.Context, after source.Cursor, n int) (source.Batch[T], error) {
	for {
		b, err := s.Refetch.Fetch(ctx, after, n)
		if n -= len(b.Records); err != nil || n == 0 {
			return b, err
		}
		if !b.More {
			return source.Batch[T]{}, nil
		}
		after = b.To
	}
}
