package late

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

// What the zero values of a Source's fields mean.
const (
	DefaultRows  = 100_000
	DefaultEvery = 30 * time.Second
)

// Table is what a [Source] watches: a *sqlsource.Table (of row.Row) or a *sqlsource.Query[T].
type Table[T any] interface {
	source.Source[T]
	Keys(ctx context.Context, after, to source.Cursor, limit int) ([]source.Cursor, error)
	Adopt(c source.Cursor) (source.Cursor, error)
	Position(c source.Cursor) string
}

// Source is a source.Source that returns the batches of a Table unchanged and reports rows
// that appear below the cursor. Table must be set. No field may be changed after the first
// Fetch, and a Source must not be copied. Its methods are safe for concurrent use.
//
// An error of a check is logged and never returned: the check continues with the next
// Fetch. If the keys of a batch could not be read, rows that appear among them before the
// next check are not found.
type Source[T any] struct {
	Table Table[T]

	// Rows is how many keys to remember, 8 bytes for each. Late rows further back are not
	// found, so choose more than are added within Every. 0 means DefaultRows.
	Rows int

	// Every is how long after the end of one check the next one begins. A Fetch
	// checks about 20,000 keys and leaves the rest to the next. 0 means DefaultEvery.
	Every time.Duration

	// Report, if not nil, is called with the late rows that a check found, within Fetch.
	Report func(context.Context, Found)

	// Logger gets a warning when a check fails or, once a minute at most, when late rows
	// are found. Give it an attribute that names the table. nil means slog.Default().
	Logger *slog.Logger

	mu      sync.Mutex
	watch   watch[T]
	seen    Reading
	checked time.Time // when all keys had been checked last
	warned  time.Time
}

// Found is what a check found: rows that appeared below the cursor.
type Found struct {
	// Rows is how many there are. It may be more than len(Keys): rows that appear between
	// a batch and the statement that reads its keys are counted, and not named. A row that
	// is deleted at that moment hides one.
	Rows int

	// Keys are the keys of the late rows, in order, each as the cursor that stands after
	// the row: about 20,000 at most. A check that finds more reports them in several calls.
	Keys []source.Cursor

	Total int // late rows found so far, these included
}

// Reading is how a [Source] has fared, or one reader of an [Audit].
type Reading struct {
	Rows      int      // rows read, without those whose keys could not be
	Late      int      // rows that appeared below the cursor: this reader missed them
	Unchecked int      // rows read that were not checked: forgotten before (raise Rows, or lower Every), or an audit ended with an error
	Keys      []string // the keys of the first ten late rows, such as "id 42"
}

// Reading returns how the source has fared so far.
func (s *Source[T]) Reading() Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.seen
	r.Keys = slices.Clone(r.Keys)
	return r
}

// Fetch implements [source.Source]. It returns what the Table returned.
func (s *Source[T]) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	b, err := s.Table.Fetch(ctx, after, limit)
	if err != nil {
		return b, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.observe(ctx, b); err != nil {
		s.logger().WarnContext(ctx, "check for late rows failed", "err", retry.Text(err))
	}
	return b, nil
}

func (s *Source[T]) logger() *slog.Logger { return cmp.Or(s.Logger, slog.Default()) }

// observe remembers a batch, and checks keys if a check is due.
func (s *Source[T]) observe(ctx context.Context, b source.Batch[T]) error {
	if s.watch.table == nil {
		s.watch, s.checked = newWatch(s.Table, cmp.Or(s.Rows, DefaultRows)), time.Now()
	}
	unnamed, err := s.watch.passed(ctx, b.From, b.To, len(b.Records))
	if err != nil {
		return err
	}
	s.seen.Rows += len(b.Records)
	if s.watch.next == 0 && time.Since(s.checked) < cmp.Or(s.Every, DefaultEvery) {
		s.report(ctx, unnamed, nil)
		return nil
	}
	return s.check(ctx, 10*pageKeys, unnamed)
}

// check checks about n keys, and reports the late rows, with those whose keys are not known.
func (s *Source[T]) check(ctx context.Context, n, unnamed int) error {
	keys, done, err := s.watch.check(ctx, n)
	if done {
		s.checked = time.Now()
	}
	s.report(ctx, unnamed+len(keys), keys)
	return err
}

func (s *Source[T]) report(ctx context.Context, rows int, keys []source.Cursor) {
	s.seen.Unchecked = s.watch.unchecked
	if rows == 0 {
		return
	}
	s.seen.Late += rows
	for _, k := range keys[:min(len(keys), 10-len(s.seen.Keys))] {
		s.seen.Keys = append(s.seen.Keys, s.Table.Position(k))
	}
	if now := time.Now(); now.Sub(s.warned) >= time.Minute {
		first := ""
		if len(keys) > 0 {
			first = s.Table.Position(keys[0])
		}
		s.warned = now
		s.logger().WarnContext(ctx, "late rows", "rows", rows, "total", s.seen.Late, "first", first)
	}
	if s.Report != nil {
		s.Report(ctx, Found{Rows: rows, Keys: keys, Total: s.seen.Late})
	}
}
