package late

import (
	"cmp"
	"context"
	"log/slog"
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

// budget is how many keys one Fetch checks, about.
const budget = 10 * pageKeys

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
	watch   *watch[T]
	checked time.Time // when all keys had been checked last
	warned  time.Time
	total   int64
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

	Total int64 // late rows found so far, these included
}

// Stats are the counters of a [Source].
type Stats struct {
	Late      int64 // late rows found so far
	Watched   int   // keys remembered now
	Unchecked int64 // keys forgotten before they were checked: raise Rows, or lower Every
}

// Stats returns the counters.
func (s *Source[T]) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Late: s.total}
	if s.watch != nil {
		st.Watched, st.Unchecked = s.watch.size(), s.watch.unchecked
	}
	return st
}

// Fetch implements [source.Source]. It returns what the Table returned.
func (s *Source[T]) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[T], error) {
	b, err := s.Table.Fetch(ctx, after, limit)
	if err != nil {
		return b, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.observe(ctx, b.From, b.To, len(b.Records)); err != nil {
		s.logger().WarnContext(ctx, "check for late rows failed", "err", retry.Text(err))
	}
	return b, nil
}

func (s *Source[T]) logger() *slog.Logger { return cmp.Or(s.Logger, slog.Default()) }

func (s *Source[T]) observe(ctx context.Context, from, to source.Cursor, rows int) error {
	if s.watch == nil {
		s.watch, s.checked = newWatch(s.Table, cmp.Or(s.Rows, DefaultRows)), time.Now()
	}
	unnamed, err := s.watch.passed(ctx, from, to, rows)
	if err != nil {
		return err
	}
	var keys []source.Cursor
	if s.watch.next > 0 || time.Since(s.checked) >= cmp.Or(s.Every, DefaultEvery) {
		var done bool
		if keys, done, err = s.watch.check(ctx, budget); done {
			s.checked = time.Now()
		}
	}
	s.report(ctx, unnamed, keys)
	return err
}

func (s *Source[T]) report(ctx context.Context, unnamed int, keys []source.Cursor) {
	n := unnamed + len(keys)
	if n == 0 {
		return
	}
	s.total += int64(n)
	if now := time.Now(); now.Sub(s.warned) >= time.Minute {
		first := ""
		if len(keys) > 0 {
			first = s.Table.Position(keys[0])
		}
		s.warned = now
		s.logger().WarnContext(ctx, "late rows", "rows", n, "total", s.total, "first", first)
	}
	if s.Report != nil {
		s.Report(ctx, Found{Rows: n, Keys: keys, Total: s.total})
	}
}
