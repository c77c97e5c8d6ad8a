package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// readMarksEvery is how often the marks are read while the delivered rows are the same.
const readMarksEvery = time.Minute

// warnEvery is how often it is logged that as many rows may have been replaced, without another sign.
const warnEvery = time.Hour

// errDoubtful says that delivered rows may have been replaced since the window was opened.
var errDoubtful = errors.New("delivered rows changed while a ceiling was used again")

// rereader reads the rows that have certain keys, and adds their digests to now, by [keyText]. It reports
// whether it could read all of them.
type rereader func(ctx context.Context, db ceiling.Queryer, where keyRange, now map[string]digest) (complete bool, err error)

func (s *state) readMarks(ctx context.Context, db ceiling.Queryer) (err error) {
	if s.marks, err = s.query.sql.Marks(ctx, db, s.base); err != nil {
		return s.query.wrap(fmt.Errorf("reading what identifies the table: %w", err), nil)
	}
	s.path = cmp.Or(s.path, pathTo(s.marks.File, s.query.db.DB))
	s.marks.File = cmp.Or(s.path, s.marks.File)
	if id := fileID(s.marks.File); id != "" {
		s.marks.Parts = append(s.marks.Parts, dialect.HistoryPart{Name: "file", Value: id, Changed: "the database's file was replaced or moved"})
	}
	s.marked = time.Now()
	return nil
}

// compare compares the rows that were delivered up to a cursor with the table. It returns the
// anchors as the rows are now. The rows are read with one statement, or each alone if they are large
// together or one of them cannot be read.
func (s *state) compare(ctx context.Context, db ceiling.Queryer, at position) (e evidence, next []anchor, err error) {
	var keys [][]dialect.Value
	for _, a := range at.origin.anchors {
		keys = append(keys, a.key)
	}
	now, complete := s.delivered, true
	if now == nil && keys != nil {
		now = map[string]digest{}
		complete, err = s.reread(ctx, db, keyRange{keys: keys}, now)
	}
	for i := 0; i < len(keys) && !complete && err == nil; i++ {
		_, err = s.reread(ctx, db, keyRange{keys: keys[i : i+1], fits: true}, now)
	}
	anchors := realign(at.origin.anchors, at.origin.columns, s.layout())
	e, next = compareAnchors(anchors, now, at.key)
	e.found = e.found || keys == nil && at.origin.table != "" // the keys are too long, or the query was edited
	return e, next, err
}

func (s *state) layout() layout { return layoutOf(s.plan.columns, s.query.key, s.plan.types) }

// verify compares the delivered rows before rows after them are delivered. It returns the cursor's
// origin with its findings, or a refusal.
func (s *state) verify(ctx context.Context, db ceiling.Queryer, at position, w *window) (origin, error) {
	o := at.origin
	e, next, err := s.compare(ctx, db, at)
	if err != nil {
		return o, err
	}
	if e.doubtful() && w.reused {
		return o, errDoubtful
	}
	if e.doubtful() || e.blind() || e.with[updated] > 0 || time.Since(s.marked) >= readMarksEvery {
		if err := s.readMarks(ctx, db); err != nil {
			return o, err
		}
	}
	what, now := s.changes(o, w.boot)
	switch {
	case what != "" && e.disproves():
		return o, refuse(fmt.Errorf("the rows that were delivered were replaced by others (%s); %v", what, e), updatedAdvice)
	case e.suspect(what):
		s.warnChanged(ctx, what, e)
	case what != "" && !w.moved: // otherwise it was logged
		s.logContinues(ctx, what, e, false)
	}
	o.anchors, o.marks = next, merge(now, o.marks)
	o.columns = s.layout()
	return o, nil
}

// warnChanged warns that delivered rows may have been replaced. In ordinary life rows are updated in all
// columns that tell them apart, so while nothing else has changed it warns again only of more rows, or after a time.
func (s *state) warnChanged(ctx context.Context, what string, e evidence) {
	rows := e.with[replaced] + e.with[unclear]
	if what == "" && !e.disproves() && rows <= s.suspects && time.Since(s.warned) < warnEvery {
		return
	}
	s.warned, s.suspects = time.Now(), rows
	s.query.logger().WarnContext(ctx, "delivered rows changed", "table", s.query.label, "change", what, "evidence", e.String(),
		"fix", refilledAdvice)
}

// changes says which marks have changed since a cursor was made, and returns short forms of the present
// ones, for the next.
func (s *state) changes(o origin, boot string) (what string, now []string) {
	parts := s.marks.Parts
	if boot != "" {
		parts = append([]dialect.HistoryPart{{Name: "start", Value: boot, Changed: "the server was started"}}, parts...)
	}
	var all []string
	for i, p := range parts {
		hash := ""
		if p.Value != "" {
			hash = fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(p.Value)))
		}
		now = append(now, hash)
		if i < len(o.marks) && o.marks[i] != "" && hash != "" && o.marks[i] != hash {
			all = append(all, p.Name+": "+p.Changed)
		}
	}
	return strings.Join(all, "; "), now
}

// logContinues logs that delivered rows are still there after a change. It warns if keys below the cursor may be drawn
// again: after a move to another server, with a ceiling that looks at no sequence.
func (s *state) logContinues(ctx context.Context, what string, e evidence, undrawn bool) {
	if undrawn {
		s.query.logger().WarnContext(ctx, "history continues", "table", s.query.label, "change", what, "evidence", e.String(), "fix", undrawnAdvice)
		return
	}
	s.query.logger().InfoContext(ctx, "history continues", "table", s.query.label, "change", what, "evidence", e.String())
}

// undrawn reports that nothing shows whether keys below the cursor can be drawn again.
func (s *state) undrawn() bool {
	return s.guard != nil && s.guard.Report().Lossy && s.marks.Drawn == ""
}

// rowKey is the key of a row of a batch.
type rowKey struct {
	row int // from 1
	key []dialect.Value
}

// cursorAfter returns the cursor after a key, which rows rows after a position have led to. It verifies the
// rows that were delivered before. The rows in seen, and the last one, can become anchors.
func (s *state) cursorAfter(ctx context.Context, db ceiling.Queryer, at position, w *window, key []dialect.Value, rows int, seen []rowKey, digested func(int) digest) (source.Cursor, error) {
	o, err := s.verify(ctx, db, at, w)
	if err != nil {
		return "", err
	}
	var anchors []anchor
	if digested != nil && rows > 0 {
		seen = append(seen, rowKey{rows, key})
	}
	for _, k := range slices.Backward(seen) {
		if back := rows - k.row; (back > 0 || anchors == nil) && len(keyText(k.key)) <= maxAnchorKey {
			anchors = append(anchors, anchor{back: back, key: k.key})
		}
	}
	o.anchors = moveAnchors(o.anchors, anchors, rows)
	for i, a := range o.anchors {
		if a.back < rows { // it is of this batch
			o.anchors[i].row = digested(rows - a.back - 1)
		}
	}
	o.table, o.values = w.origin.table, w.origin.values
	switch {
	case w.durable:
		o.mark = w.origin.mark
	case w.moved:
		o.mark = 0
	}
	cursor, err := encode(s.query.print, o, key)
	w.to = cursor
	return cursor, err
}

// rereaderOf returns how the rows of a state are read again.
func rereaderOf[T any](s *state, open func(*plan, int) (records[T], error)) rereader {
	return func(ctx context.Context, db ceiling.Queryer, where keyRange, now map[string]digest) (complete bool, err error) {
		where.limit = len(where.keys) + 1
		into, err := open(s.plan, where.limit)
		if err != nil {
			return false, err
		}
		var found []string
		r := newReader(s.query, db, s.plan, nil, len(where.keys))
		r.bind(into.bind)
		r.add = func() int {
			found = append(found, keyText(values(r.keys.now)))
			return into.add()
		}
		s.unproven = true
		err = r.read(ctx, where)
		if class := retry.Classify(err); err != nil && (ctx.Err() != nil || class != retry.Fatal && class != retry.Data) {
			return false, err
		}
		if r.rows > 0 {
			for i, row := range into.take(r.rows) {
				now[found[i]] = digestRow(s, into, row)
			}
		}
		return err == nil && !r.more, nil
	}
}

func digestRow[T any](s *state, into records[T], row T) digest {
	return digestOf(s.plan.columns, s.query.key, func(column int) uint32 { return into.digest(row, column) })
}

// oneOf writes the condition that a row has one of the keys.
func (q *query) oneOf(p *plan, keys [][]dialect.Value, args *dialect.Args) (string, error) {
	rows := []string{"1 = 0"}
	for _, key := range keys {
		conds, err := q.equal(p.key, key, args)
		if err != nil {
			return "", err
		}
		rows = append(rows, strings.Join(conds, " AND "))
	}
	return "(" + strings.Join(rows[min(1, len(keys)):], " OR ") + ")", nil
}

// takeRows takes the rows of a batch, if there are any, and digests of those in front of it.
func takeRows[T any](s *state, r *reader, into records[T], b *source.Batch[T]) {
	if r.rows == 0 {
		return
	}
	all := into.take(len(r.found) + r.rows)
	b.Records, b.Bytes, b.More, s.rowSize = all[len(r.found):], r.bytes, r.more, max(r.bytes/r.rows, 1)
	if r.together && !r.unreadable {
		s.delivered = map[string]digest{}
		for i, key := range r.found {
			s.delivered[key] = digestRow(s, into, all[i])
		}
	}
}

// finishRows takes the rows of a batch and finds its cursor, after their last key.
func finishRows[T any](ctx context.Context, s *state, db ceiling.Queryer, r *reader, at position, key []dialect.Value, w *window, into records[T], b *source.Batch[T]) error {
	takeRows(s, r, into, b)
	return s.finish(db, r, func(db ceiling.Queryer) (err error) {
		s.to, err = s.cursorAfter(ctx, db, at, w, key, r.rows, r.seen, func(i int) digest { return digestRow(s, into, b.Records[i]) })
		return err
	})
}

// finishBad gives a *source.BadRecord the cursor after its row. It returns other errors as they are.
func (s *state) finishBad(ctx context.Context, db ceiling.Queryer, r *reader, at position, w *window, err error) error {
	var bad *source.BadRecord
	if !errors.As(err, &bad) {
		return err
	}
	key := values(r.keys.now)
	failed := s.finish(db, r, func(db ceiling.Queryer) (err error) {
		if err = s.query.findHidden(ctx, db, s.plan, at.key); err == nil {
			bad.To, err = s.cursorAfter(ctx, db, at, w, key, 1, nil, nil)
		}
		return err
	})
	return cmp.Or(failed, err)
}

// finish calls f, or leaves that to fetch if the batch has closed the connection.
func (s *state) finish(db ceiling.Queryer, r *reader, f func(ceiling.Queryer) error) error {
	if r.dropped {
		s.unfinished = append(s.unfinished, f)
		return nil
	}
	return f(db)
}

// equal writes the conditions that columns have the values of a key.
func (q *query) equal(columns []dialect.KeyColumn, key []dialect.Value, args *dialect.Args) (conds []string, err error) {
	for i, k := range columns {
		expr, arg, err := k.Bind(key[i])
		if err != nil {
			return nil, q.wrap(dialect.Misfit(k, key[i], err), nil)
		}
		conds = append(conds, k.Ref+" = "+args.Add(expr, arg))
	}
	return conds, nil
}
