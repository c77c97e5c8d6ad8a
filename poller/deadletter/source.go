package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

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
	// the records of letters that have none. Without it, such a letter is a
	// BadRecord.
	Refetch source.Source[T]

	// Gone is called for a letter that is skipped because Refetch no longer has
	// its record. It may be called again for the same letter. It may be nil.
	Gone func(Letter)

	// Only selects letters, for example by ID. The others are skipped. Defaults to
	// all letters.
	Only func(Letter) bool

	mu   sync.Mutex
	at   position        // up to which seen is complete
	seen map[string]bool // IDs
}

// Fetch returns the records of the letters after a cursor, decoded from
// [Letter].Record by encoding/json.
func (s *Source[T]) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := source.Batch[T]{From: after, To: after}
	if ctx.Err() != nil {
		return b, fmt.Errorf("deadletter: %w", context.Cause(ctx))
	}
	at, err := s.seek(after)
	if err != nil {
		return b, err
	}
	for f, err := range scan(s.Dir, at) {
		if err == nil && (s.seen[f.letter.ID] || s.Only != nil && !s.Only(f.letter)) {
			b.To = s.pass(f)
			continue
		}
		if len(b.Records) == limit {
			b.More = true
			break
		}
		record, exists, err := s.record(ctx, f, err)
		if bad := (*source.BadRecord)(nil); errors.As(err, &bad) && b.To != after {
			b.More = true // the record is the error of the next Fetch
			break
		}
		if err != nil {
			return b, err
		}
		b.To = s.pass(f)
		if exists {
			b.Records = append(b.Records, record)
			b.Bytes += len(f.letter.Record)
		}
	}
	return b, nil
}

// seek returns the position of a cursor. It makes s.seen complete up to there.
func (s *Source[T]) seek(after source.Cursor) (position, error) {
	at, err := parseCursor(after)
	if err != nil || s.seen != nil && s.at == at {
		return at, err
	}
	s.seen, s.at = map[string]bool{}, position{}
	for f, err := range scan(s.Dir, position{}) {
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
	return f.next.cursor()
}

// record returns the record of a letter, or the error of a scan as one that the
// Poller can move past. It returns false if the record no longer exists.
func (s *Source[T]) record(ctx context.Context, f found, err error) (record T, exists bool, _ error) {
	l := f.letter
	bad := func(err error) error {
		return &source.BadRecord{Key: fmt.Sprintf("letter %s %s", l.ID, l.Key), To: f.next.cursor(), Err: err}
	}
	switch {
	case err != nil && f.next == (position{}):
		return record, false, err
	case err != nil:
		return record, false, &source.BadRecord{Key: "position " + string(f.next.cursor()), To: f.next.cursor(), Err: err}
	case l.Record != nil:
		if err := json.Unmarshal(l.Record, &record); err != nil {
			return record, false, bad(fmt.Errorf("its record does not fit into %T", record)) // the text of err may contain values
		}
		return record, true, nil
	case s.Refetch == nil:
		return record, false, bad(errors.New("it has no record: set Source.Refetch"))
	}
	return s.refetch(ctx, l, bad)
}

// refetch reads the record of a letter from the pipeline's source. Another record
// may have taken its place: the key tells, or else the cursor after it.
func (s *Source[T]) refetch(ctx context.Context, l Letter, bad func(error) error) (record T, exists bool, _ error) {
	b, err := s.fetchLast(ctx, l.From, l.Index+1)
	key, still := b.Position, (*source.BadRecord)(nil)
	if errors.As(err, &still) {
		key, b.To = still.Key, still.To
	} else if err != nil {
		return record, false, fmt.Errorf("deadletter: read the record of letter %s again: %w", l.ID, err)
	}
	switch {
	case still == nil && len(b.Records) == 0, l.Key != "" && key != "" && key != l.Key:
		if s.Gone != nil {
			s.Gone(l)
		}
		return record, false, nil
	case b.To != l.To && (l.Key == "" || key != l.Key):
		return record, false, bad(errors.New("Refetch may have another record in its place"))
	case still != nil:
		return record, false, bad(still.Err)
	}
	return b.Records[len(b.Records)-1], true, nil
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

const cursorFormat = "letters:%d:%d" // the number of a file, and an offset in it

func (p position) cursor() source.Cursor {
	return source.Cursor(fmt.Sprintf(cursorFormat, p.segment, p.offset))
}

func (p position) after(q position) bool {
	return p.segment > q.segment || p.segment == q.segment && p.offset > q.offset
}

func parseCursor(c source.Cursor) (p position, err error) {
	if c == "" {
		return p, nil
	}
	if _, err := fmt.Sscanf(string(c), cursorFormat, &p.segment, &p.offset); err != nil || p.cursor() != c || p.offset < 0 {
		return p, fmt.Errorf("deadletter: %q is not a cursor of letters: use the checkpoint of the replay, which is not the one of the pipeline that wrote the letters", c.Short())
	}
	return p, nil
}
