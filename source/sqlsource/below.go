package sqlsource

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// large is a row that must be read alone.
type large struct {
	after source.Cursor
	key   []dialect.Value // nil: no row is known
}

// readBelow reads the rows after a position and below a window, and returns where the last is.
// The error is a *source.BadRecord if the first row cannot be read.
func (s *state) readBelow(ctx context.Context, r *reader, w *window, at position) (position, error) {
	if w.Nothing {
		return at, nil
	}
	before := r.rows
	where := keyRange{after: at.key, below: w.Limit, limit: r.limit + 1}
	alone := s.large.key != nil && s.large.after == at.cursor && before == 0
	follow := s.query.where == "" && w.Held == nil && !w.More && w.pending(at.key) > 0 // rows do, unless they were deleted
	if alone || s.collect || s.backlog && s.rowSize >= collectRows {
		freeMemory(alone || s.collect) // of the rows before
	}
	if s.collect = alone; alone {
		where.to, where.fits, where.limit = s.large.key, true, 2
		s.large = large{}
		defer freeMemory(true) // of the driver's copies
	}
	if s.plan.steady != "" && !alone && !r.hidden && (s.backlog || before == 0 && follow) {
		where.steady = s.plan.steady + w.same
		for i := 0; i < len(at.origin.anchors) && s.rowSize < collectRows; i++ {
			where.keys = append(where.keys, at.origin.anchors[i].key)
		}
	}
	err := r.read(ctx, where)
	if where.steady != "" && err == nil && r.rows == before && r.unread == nil {
		return at, s.hidden(ctx, r)
	}
	if err != nil && retry.Classify(r.refused) == retry.Data {
		where.steady, where.keys, alone = "", nil, true
		err = r.isolate(ctx, where, err)
	}
	if err != nil {
		return at, err
	}
	s.unproven = s.unproven || where.steady == "" && (r.rows > before || r.unread != nil)
	s.backlog = r.more
	switch {
	case before == 0 && r.rows == 0 && r.unread != nil:
		return s.unread(ctx, r, w, at)
	case alone && r.rows == 0: // the row was changed or deleted since it was found
		return s.readBelow(ctx, r, w, at)
	case r.rows > before:
		from := at.key
		if at, err = s.query.positionOf(values(r.keys.last), w); err == nil {
			err = s.finish(r.db, r, func(db ceiling.Queryer) error { return s.query.findHidden(ctx, db, r.plan, from) })
		}
	}
	if alone && err == nil { // find out whether another row follows
		err = r.eachKey(ctx, r.db, r.plan, keyRange{after: at.key, below: w.Limit, limit: 1}, func([]dialect.Value) { r.more = true })
	}
	return at, err
}

// steady reports that the rows after a position are read only while the plan's condition holds.
func (s *state) steady(at position) bool {
	return s.backlog && s.plan.steady != "" && (s.large.key == nil || s.large.after != at.cursor)
}

// hidden notes that the plan's condition has hidden the rows, or that no row exists. They are read again without it.
func (s *state) hidden(ctx context.Context, r *reader) error {
	s.backlog, r.hidden = false, true
	now, err := s.query.sql.Steady(ctx, r.db, s.query.table)
	if err == nil && now != s.plan.steady {
		err = errChanged
	}
	return r.wrap(err, nil)
}

// isolate handles an error of the database that a value in a row may be to blame for, such as
// text that the connection's encoding lacks. It delivers the rows before that row first, and
// then reads the first row alone.
func (r *reader) isolate(ctx context.Context, where keyRange, failed error) error {
	if r.rows > 0 {
		r.more = true
		return nil
	}
	where.limit = 1
	err := r.eachKey(ctx, r.db, r.plan, where, func(key []dialect.Value) { where.to = key })
	if err != nil || where.to == nil {
		return failed // a value in a condition is to blame
	}
	r.limit = 1
	if err = r.read(ctx, where); err == nil || retry.Classify(r.refused) != retry.Data {
		return err
	}
	r.keys.set(where.to)
	r.unread = permanent("%s: the database cannot return the row: %w", r.label, hidden{retry.Text(r.refused), err})
	return nil
}

// unread handles that the first row after a position was not read: it reads a large row alone,
// and returns the error of any other row.
func (s *state) unread(ctx context.Context, r *reader, w *window, at position) (position, error) {
	next, err := s.query.positionOf(values(r.keys.now), w)
	if err != nil {
		return at, err
	}
	if !errors.Is(r.unread, errLarge) {
		return at, &source.BadRecord{Key: positionText(s.query.key, next.cursor), To: next.cursor, Err: r.unread}
	}
	s.large = large{at.cursor, next.key}
	if r.dropped {
		return at, driver.ErrBadConn // read on with another one
	}
	r.more, r.unread = false, nil
	return s.readBelow(ctx, r, w, at)
}

func (q *query) positionOf(key []dialect.Value, w *window) (position, error) {
	cursor, err := encode(q.print, w.origin, key)
	return position{cursor: cursor, key: key, origin: w.origin}, err
}
