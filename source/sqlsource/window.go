package sqlsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// window is how far the table can be read, and for which cursors that was found:
// the one it was opened for, and that of the last batch since.
type window struct {
	ceiling.Limit
	from, to source.Cursor
	origin   origin    // without anchors and marks, which change from batch to batch
	moved    bool      // the rows have proven another history to be the cursor's
	reused   bool      // an earlier call has opened it
	since    time.Time // when it was found
	boot     string    // of the server
	durable  bool      // a crash of the server cannot take back what is below the limit
	same     string    // a condition, after AND, that the history is the one in which it was found; "": none is known
}

// unflushed is the holder of rows whose commit is not on disk yet.
const unflushed = "the server's write-ahead log, which is not on disk yet (asynchronous commit)"

// flushRetry is when to ask again whether it is: any other commit flushes it too.
const flushRetry = 5 * time.Millisecond

// windowAfter returns how far the table can be read after a cursor, and whether the ceiling
// was asked for it. An open window is used again, unless the server is another one or was
// restarted: its log may have ended below the mark, and then keys are drawn again.
func (s *state) windowAfter(ctx context.Context, db ceiling.Queryer, at position) (w *window, fresh bool, err error) {
	if w := s.window; w != nil && (at.cursor == w.from || at.cursor == w.to) {
		if w.reused = true; w.durable && w.same != "" && s.steady(at) { // the statement for the rows compares the history
			return w, false, nil
		}
		h, err := s.history(ctx, db, w.Sequence)
		if err != nil {
			return nil, false, err
		}
		if h.Boot == w.boot && w.origin.follows(h) == nil {
			if !w.durable && h.Flushes > 0 && time.Since(w.since) > h.Flushes {
				w.durable, w.origin.mark = true, min(w.origin.mark, h.Flushed) // what is not on disk is not a commit
			}
			w.durable = w.durable || h.Flushed >= w.origin.mark
			return w, false, nil
		}
	}
	s.window = nil
	if w, err = s.openWindow(ctx, db, at); err == nil {
		s.window = w
	}
	return w, true, err
}

// openWindow asks the ceiling how far the table can be read, and compares the
// database's history with the cursor's.
func (s *state) openWindow(ctx context.Context, db ceiling.Queryer, at position) (*window, error) {
	q := s.query
	limit, failed := s.limit(ctx, db, at.key)
	var rewound *ceiling.RewoundError
	if failed != nil && !errors.As(failed, &rewound) {
		return nil, failed
	}
	if s.marked.IsZero() {
		if err := s.readMarks(ctx, db); err != nil {
			return nil, err
		}
	}
	h, err := s.history(ctx, db, limit.Sequence) // after the limit, so that its mark is above all rows below that
	if err != nil {
		return nil, err
	}
	if rewound == nil {
		rewound = s.fellBelow(h, at.key)
	}
	w := &window{Limit: limit, from: at.cursor, to: at.cursor, since: time.Now(), boot: h.Boot, durable: h.Flushed >= h.Mark, same: h.Same}
	older := at.origin
	if changed := older.follows(h); changed != nil {
		if errors.Is(changed, errBehind) {
			return nil, q.wrap(changed, nil)
		}
		e, _, err := s.compare(ctx, db, at)
		if err != nil {
			return nil, err
		}
		switch {
		case rewound != nil:
			return nil, refuse(fmt.Errorf("%s; %w; %v", rewound.What, changed, e), rewindAdvice)
		case !e.proves():
			return nil, refuse(fmt.Errorf("%w; %v", changed, e), adoptAdvice)
		}
		s.logContinues(ctx, changed.Error(), e, s.undrawn())
		older, w.moved = origin{}, true
	}
	if rewound != nil {
		return nil, refuse(errors.New(rewound.What), rewindAdvice)
	}
	s.unasked = true
	w.origin = originOf(h, older, q.identity)
	return w, nil
}

// fellBelow reports that the counter that draws the key stands below it, which a lossy ceiling does not ask
// for. Then adopting the cursor would lose the rows that get these keys again.
func (s *state) fellBelow(h dialect.History, key []dialect.Value) *ceiling.RewoundError {
	if s.marks.Drawn == "" || len(key) != 1 || !slices.Equal(s.base, s.query.table) || !strings.EqualFold(s.query.key[0], s.marks.Drawn) {
		return nil
	}
	if n, err := strconv.ParseUint(key[0].Text, 10, 64); err != nil || n <= h.Drawn {
		return nil
	}
	return &ceiling.RewoundError{Table: s.query.label, What: fmt.Sprintf("the counter of %q has come to %d, below the cursor, so keys that were read are drawn again", s.marks.Drawn, h.Drawn)}
}

// pending returns the greatest number of rows that can follow a key, 0 if it is not known:
// without a key, or if several rows can share an integer. So is a number that overflows.
func (w *window) pending(after []dialect.Value) int64 {
	if len(after) != 1 || w.Greatest == 0 {
		return 0
	}
	n, err := strconv.ParseInt(after[0].Text, 10, 64)
	if err != nil || n > w.Greatest {
		return 0
	}
	return max(w.Greatest-n, 0)
}

// lookAfter is how long polls with nothing new may do without the statements for what no row shows: the table that the
// key of a view or a Select comes from, and NULL in the key of a view.
const lookAfter = 5 * time.Second

// lookFirst looks for NULL in the first column of the key, once by each plan.
func (s *state) lookFirst(ctx context.Context, db ceiling.Queryer) error {
	if !s.nulls.IsZero() {
		return nil
	}
	err := s.query.findNull(ctx, db, s.plan, 0, nil)
	if err == nil {
		s.nulls = time.Now()
	}
	return err
}

// findNull looks for NULL in the first column of the key, after rows were read to the end. Otherwise it looks in one column
// after the other, with one statement.
func (s *state) findNull(ctx context.Context, db ceiling.Queryer, after []dialect.Value, rows bool) error {
	i := 0
	if !rows {
		if !slices.Equal(s.base, s.query.table) && time.Since(s.nulls) < lookAfter { // it is a view
			return nil
		}
		s.turn++
		i = s.turn % len(s.plan.key)
	}
	if s.nulls = time.Now(); i > 0 && after == nil {
		return nil
	}
	return s.query.findNull(ctx, db, s.plan, i, after)
}

// check holds rows below the window that a crash of the server could take back.
func (s *state) check(ctx context.Context, db ceiling.Queryer, w *window, after []dialect.Value) (*source.Held, error) {
	if w.Nothing || w.durable || w.Unflushed {
		return nil, nil
	}
	statement, args, err := s.query.statement(s.plan, "1", keyRange{after: after, below: w.Limit, limit: 1})
	if err != nil {
		return nil, err
	}
	if found, err := s.query.some(ctx, db, statement, args, after); err != nil {
		return nil, err
	} else if found {
		return &source.Held{Since: w.since, Retry: flushRetry, By: []string{unflushed}}, nil
	}
	w.Nothing = true
	return nil, nil
}

// limit asks the guard, and opens one first if necessary: at the start, if the table
// changed, or if names in its statements no longer exist.
func (s *state) limit(ctx context.Context, db ceiling.Queryer, key []dialect.Value) (ceiling.Limit, error) {
	// The guard sees the key's text alone. Here an error says that it does not fit its columns.
	if _, _, err := s.query.statement(s.plan, s.plan.list, keyRange{after: key}); err != nil {
		return ceiling.Limit{}, err
	}
	after := texts(key)
	for round := 1; ; round++ {
		if err := s.open(ctx, db); err != nil {
			return ceiling.Limit{}, err
		}
		l, err := s.guard.Advance(ctx, db, after)
		if errors.Is(err, ceiling.ErrChanged) || retry.Classify(err) == retry.Setup {
			s.guard = nil
			if round < rounds {
				continue
			}
		}
		if err == nil && l.UpTo != "" {
			var upTo []dialect.Value
			upTo, _, err = decode(l.UpTo, s.query.print, len(s.query.key))
			if upTo == nil || slices.Equal(upTo, key) { // nothing is before the first row, nor after the last
				l.Nothing, l.Held = true, nil
			}
		}
		if err != nil {
			err = s.query.wrap(fmt.Errorf("finding the ceiling: %w", err), key)
		}
		return l, err
	}
}

func texts(key []dialect.Value) (all []string) {
	for _, v := range key {
		all = append(all, v.Text)
	}
	return all
}

// open makes the guard, unless it exists, and logs its guarantee in one line.
func (s *state) open(ctx context.Context, db ceiling.Queryer) error {
	q := s.query
	if s.guard != nil {
		return nil
	}
	c := q.ceiling
	var g ceiling.Guard
	var err error
	if c == nil {
		c, err = q.sql.Choose(ctx, db, s.target())
	}
	if err == nil {
		g, err = s.openGuard(ctx, db, c)
	}
	var unsafe *ceiling.UnsafeError
	if errors.As(err, &unsafe) {
		return retry.Permanent(fmt.Errorf("sqlsource: %w", err))
	}
	if err != nil {
		return q.wrap(err, nil)
	}
	s.guard = g
	r := s.report()
	s.guarantee = &source.Guarantee{Name: r.Strategy, Text: r.Guarantee, Lossy: r.Lossy}
	if r.Strategy+r.Guarantee == s.reported {
		return nil
	}
	s.reported = r.Strategy + r.Guarantee
	level := slog.LevelInfo
	attrs := []any{"table", q.label, "ceiling", r.Strategy, "guarantee", r.Guarantee}
	var warnings []string
	for _, f := range r.Findings {
		if f.Level == ceiling.Warning {
			warnings = append(warnings, f.Text)
		}
	}
	if warnings != nil {
		attrs = append(attrs, "warnings", warnings)
	}
	if r.Lossy || warnings != nil {
		level = slog.LevelWarn
	}
	q.logger().Log(ctx, level, "guarantee", attrs...)
	return nil
}

// report is the guard's, whose guarantee also says what the history does not show, and what
// becomes of updates where the key's name asks for them.
func (s *state) report() ceiling.Report {
	r := s.guard.Report()
	if column := s.unreadUpdates(r); column != "" {
		if r.Updates == ceiling.UpdatesByKey {
			r.Guarantee += "; a row is not read again after an UPDATE that leaves its key unchanged"
		}
		r.Findings = slices.Clone(r.Findings)
		r.Add(ceiling.Warning, nil, "the name of %q says that each UPDATE sets it, and nothing that was checked does: an UPDATE that does not set it is not read", column)
	}
	r.Guarantee += "; " + s.query.sql.Unnoticed()
	return r
}

// unreadUpdates returns the key's column whose name asks for updates, "" if they are read or
// no name asks for them.
func (s *state) unreadUpdates(r ceiling.Report) string {
	if r.Updates == ceiling.UpdatesRead {
		return ""
	}
	return s.target().UpdateColumn()
}

func (s *state) target() ceiling.Table {
	q := s.query
	t := ceiling.Table{SQL: q.sql, Label: q.label, Parts: q.table, End: s.end}
	if q.table != nil {
		t.Name = dialect.QuoteAll(q.sql, q.table)
	}
	for _, k := range s.plan.key {
		t.Key = append(t.Key, ceiling.Column{Name: k.Name, Type: k.Type, Quoted: q.sql.Quote(k.Name), Ref: q.ref(k.Name)})
	}
	return t
}

// startLatest is greatest. What would be missed is refused now, and not after the first row.
func (s *state) startLatest(ctx context.Context, db ceiling.Queryer) (source.Cursor, error) {
	if err := s.open(ctx, db); err != nil {
		return "", err
	}
	return s.greatest(ctx, db)
}

// greatest returns the cursor after the last row, or before the first one if the table is empty.
func (s *state) greatest(ctx context.Context, db ceiling.Queryer) (source.Cursor, error) {
	key, err := s.query.end(ctx, db, s.plan, true)
	if err != nil {
		return "", err
	}
	return encode(s.query.print, origin{}, key)
}

// end returns the texts of the key of the first or the last row.
func (s *state) end(ctx context.Context, db ceiling.Queryer, last bool) ([]string, error) {
	key, err := s.query.end(ctx, db, s.plan, last)
	return texts(key), err
}
