package sqlsource

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// reach is how far the table can be read, and for which cursors that was found:
// the one it was raised for, and those of the batches since.
type reach struct {
	ceiling.Limit
	from, to source.Cursor
	past     past
	since    time.Time // when it was found
	boot     string    // of the server
	durable  bool      // a crash of the server cannot take back what is below the limit
}

// unflushed is who holds rows back whose commit is not on disk.
const unflushed = "the server's write-ahead log, which is not on disk so far (asynchronous commit)"

// flushRetry is when to look again whether it is: the server's WAL writer runs
// every 200 ms by default, any other commit flushes it too.
const flushRetry = 5 * time.Millisecond

// onConn calls f with one connection for all of its statements: a ceiling holds
// for the server that it was found on. A connection that turns out to be dead is
// replaced, as package database/sql does for single statements; after an outage
// all that the pool has may be. pgx also calls dead what it is asked to use when
// ctx has ended, and then it is the pool that says so.
func (q *query) onConn(ctx context.Context, f func(ceiling.Queryer) error) error {
	for left := q.db.Stats().Idle + 2; ; left-- {
		conn, err := q.db.DB.Conn(ctx)
		if err == nil {
			err = f(conn)
			conn.Close() // gives it back to the pool, or has no news
		}
		if !errors.Is(err, driver.ErrBadConn) || left == 0 {
			return err
		}
	}
}

// reachFor finds how far may be read after a cursor, if that is not known. fresh
// says that it was found now.
func (s *state) reachFor(ctx context.Context, db ceiling.Queryer, after position) (fresh bool, err error) {
	if r := s.reach; r == nil || after.cursor != r.from && after.cursor != r.to {
		fresh = true
		if s.reach, err = s.raise(ctx, db, after.key, after.past); err != nil {
			return fresh, err
		}
		s.reach.from, s.reach.to = after.cursor, after.cursor
	}
	if r := s.reach; !fresh {
		h, err := s.query.sql.history(ctx, db, s.query.table)
		if err != nil {
			return fresh, s.query.wrap(err, nil)
		}
		// After a start the log may have ended below the mark, and another server,
		// to which a new connection may lead, has a log of its own: keys are drawn again.
		if h.boot != r.boot || h.follows(r.past) != nil {
			s.reach = nil
			return s.reachFor(ctx, db, after)
		}
		if !r.durable && h.flushes > 0 && time.Since(r.since) > h.flushes {
			r.durable, r.past.mark = true, min(r.past.mark, h.flushed) // what is not on disk is no commit
		}
		r.durable = r.durable || h.flushed >= r.past.mark
	}
	return fresh, nil
}

func (s *state) raise(ctx context.Context, db ceiling.Queryer, key []value, old past) (*reach, error) {
	q := s.query
	limit, failed := s.limit(ctx, db, key)
	var rewound *ceiling.RewoundError
	if failed != nil && !errors.As(failed, &rewound) {
		return nil, failed
	}
	h, err := q.sql.history(ctx, db, q.table) // after the limit, so that its mark is above all rows below that
	if err != nil {
		return nil, q.wrap(fmt.Errorf("reading what identifies the database's history: %w", err), nil)
	}
	h.draw(limit.Sequence)
	if err := h.follows(old); err != nil {
		return nil, q.notFollowed(err, adoptAdvice)
	}
	if rewound != nil {
		return nil, q.notFollowed(errors.New(rewound.What), rewindAdvice)
	}
	return &reach{Limit: limit, since: time.Now(), boot: h.boot, past: h.past().joined(old), durable: h.flushed >= h.mark}, nil
}

// limit asks the guard, which it makes if there is none. It is made anew where the
// table changed, or names of its statements are no more: another table may have
// taken the name, and its sequence has another.
func (s *state) limit(ctx context.Context, db ceiling.Queryer, key []value) (ceiling.Limit, error) {
	var after []string
	for _, v := range key {
		after = append(after, v.text)
	}
	for round := 1; ; round++ {
		if s.guard == nil {
			if err := s.open(ctx, db); err != nil {
				return ceiling.Limit{}, err
			}
		}
		l, err := s.guard.Advance(ctx, db, after)
		if errors.Is(err, ceiling.ErrChanged) || retry.Classify(err) == retry.Setup {
			s.guard = nil
			if round < rounds {
				continue
			}
		}
		if err != nil {
			err = s.query.wrap(fmt.Errorf("finding the ceiling: %w", err), key)
		}
		return l, err
	}
}

// open makes a guard, and says in one line what is guaranteed.
func (s *state) open(ctx context.Context, db ceiling.Queryer) error {
	q := s.query
	g, err := q.openCeiling(ctx, db)
	var unsafe *ceiling.UnsafeError
	if errors.As(err, &unsafe) {
		return retry.Permanent(fmt.Errorf("sqlsource: %w", err))
	}
	if err != nil {
		return fmt.Errorf("sqlsource: %s: %w", q.label, err)
	}
	s.guard = g
	r := g.Report()
	s.guarantee = &source.Guarantee{Name: r.Strategy, Text: r.Guarantee, Lossy: r.Lossy}
	if r.Strategy+r.Guarantee == s.said {
		return nil
	}
	s.said = r.Strategy + r.Guarantee
	level := slog.LevelInfo
	var warnings []string
	for _, f := range r.Findings {
		if f.Level == ceiling.Warning {
			warnings = append(warnings, f.Text)
		}
	}
	if r.Lossy || warnings != nil {
		level = slog.LevelWarn
	}
	attrs := []any{"table", q.label, "ceiling", r.Strategy, "guarantee", r.Guarantee}
	if warnings != nil {
		attrs = append(attrs, "warnings", warnings)
	}
	q.logger().Log(ctx, level, "guarantee", attrs...)
	return nil
}

// openCeiling opens the Ceiling that was set, or the one that fits the table.
func (q *query) openCeiling(ctx context.Context, db ceiling.Queryer) (ceiling.Guard, error) {
	t, c := q.target(), q.ceiling
	if c == nil {
		var err error
		if c, err = q.dialect.choose(ctx, db, t); err != nil {
			return nil, err
		}
	}
	return c.Open(ctx, db, t)
}

func (q *query) target() ceiling.Table {
	t := ceiling.Table{SQL: q.dialect.sql(), Label: q.label, Parts: q.table}
	if q.table != nil {
		t.Name = quoteAll(q.sql, q.table)
	}
	for _, name := range q.key {
		t.Key = append(t.Key, ceiling.Column{Name: name, Quoted: q.sql.quote(name), Ref: q.ref(name)})
	}
	return t
}
