package xminsource

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// lookedUp has keys that were looked up after a cursor. It waits until the log is on disk: a row that was deleted by a commit
// which a crash takes back is in the table again, and does not come again.
type lookedUp struct {
	from    source.Cursor
	limit   int
	keys    []sqlsource.Key
	found   []finding
	history state     // before the keys were looked up
	until   candidate // after that
}

// remove delivers the deletes of the keys that a key pass has missed and that are not in the table.
func (s *Source) remove(ctx context.Context, p position, limit int, b *source.Batch[row.Change]) error {
	if p.known.halfway {
		return s.replace(ctx, p, b)
	}
	for round := 1; ; round++ {
		f, st, err := s.lookUp(ctx, p, limit, b.From)
		switch {
		case err != nil:
			return err
		case f == nil && round == rounds:
			return s.wrap(errRewritten)
		case f == nil:
			continue
		case !f.until.durable(st.history):
			b.Held = &source.Held{Since: f.until.read, Retry: flushRetry, By: []string{unflushed}}
			return nil
		}
		s.remover.found = nil
		return s.deliverDeletes(p, f, b)
	}
}

// errRewritten passes when ALTER TABLE has ended.
var errRewritten = errors.New("the table was rewritten, or the server restarted, again and again while it was read")

// lookUp looks up the next keys, and returns the server's state after that. It returns nil if the table was rewritten, or the
// server restarted, meanwhile.
func (s *Source) lookUp(ctx context.Context, p position, limit int, from source.Cursor) (f *lookedUp, st state, err error) {
	d := s.remover
	if f = d.found; f == nil || f.from != from || f.limit != limit {
		f = &lookedUp{from: from, limit: limit}
		if f.keys, err = d.take(p.known, min(limit, lookUp)); err != nil {
			return nil, st, s.wrap(err)
		}
	}
	same := false
	err = s.withDB(ctx, func(db queryer) error {
		if d.found == f {
			st, same, err = s.guard.unchanged(ctx, db)
			return err
		}
		st, same, err = s.findOn(ctx, db, p, f)
		return err
	})
	if err != nil || !same {
		d.found = nil
		return nil, st, err
	}
	if d.found != f {
		f.until = candidate{st, time.Now()}
		d.found = f
	}
	return f, st, nil
}

// findOn looks up keys on a server that has every delivered version. It is not the same if the table or the type of its key
// has changed since.
func (s *Source) findOn(ctx context.Context, db queryer, p position, f *lookedUp) (st state, same bool, err error) {
	if f.history, err = s.follow(ctx, db, p); err != nil {
		return st, false, err
	}
	g := s.guard
	tree, err := g.readTree(ctx, db, p)
	if err != nil {
		return st, false, err
	}
	g.position, g.used = p, stamp{f.history.history.Boot, tree.stamp()}
	if g.key, err = g.keyTypes(ctx, db); err != nil {
		return st, false, err
	}
	if f.found, err = g.find(ctx, db, f.keys); err != nil {
		return st, false, s.wrap(err)
	}
	types, err := g.keyTypes(ctx, db)
	if err != nil {
		return st, false, err
	}
	st, same, err = g.unchanged(ctx, db)
	return st, same && slices.Equal(types, g.key), err
}

// deliverDeletes makes a batch of the keys that were looked up.
func (s *Source) deliverDeletes(p position, f *lookedUp, b *source.Batch[row.Change]) error {
	d := s.remover
	to := p
	to.history = historyOf(f.history.history, p.history.mark, p.history)
	known, gone, err := d.judge(p.known, f)
	if err != nil {
		return s.wrap(err)
	}
	if b.Records, err = s.deletes(gone); err != nil {
		return s.wrap(err)
	}
	to.known = known
	for _, c := range b.Records {
		b.Bytes += c.Size()
	}
	return s.endRemoval(to, b)
}

// endRemoval moves the cursor.
func (s *Source) endRemoval(to position, b *source.Batch[row.Change]) (err error) {
	b.Pending = int64(to.known.missing - to.known.taken)
	to.known = s.remover.ended(to.known)
	b.To, err = s.encode(to)
	b.More = true // at least the next pass begins
	return err
}

func (s *Source) deletes(keys []sqlsource.Key) ([]row.Change, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := keyRows(s.Key, s.remover.list.from.kinds, keys)
	changes := make([]row.Change, len(rows))
	for i, key := range rows {
		changes[i] = row.Change{Op: row.Delete, Table: s.label, Key: key}
	}
	return changes, err
}

// replace delivers the row of a key that was deleted because an equal one has replaced it: a copy that compares keys as the
// database does has lost that row by the delete.
func (s *Source) replace(ctx context.Context, p position, b *source.Batch[row.Change]) error {
	keys, err := s.remover.take(p.known, 1)
	if err != nil {
		return s.wrap(err)
	}
	s.guard.only = keys[0]
	defer func() { s.guard.only = "" }()
	f, st, err := s.fetch(ctx, p, 1, b.From)
	switch {
	case err != nil:
		return err
	case f == nil:
		return s.wrap(errRewritten)
	case !f.until.durable(st.history):
		b.Held = &source.Held{Since: f.until.read, Retry: flushRetry, By: []string{unflushed}}
		return nil
	}
	s.fetched = nil
	to := p
	to.known.halfway = false
	to.known.taken++
	if f.bad != nil {
		if err := s.endRemoval(to, b); err != nil {
			return err
		}
		return &source.BadRecord{Key: f.bad.Key, To: b.To, Err: f.bad.Err}
	}
	if b.Records, err = s.changes(f.rows.Records); err != nil {
		return err
	}
	b.Bytes = f.rows.Bytes
	if to.known, err = s.remember(to.known, f); err != nil {
		return err
	}
	return s.endRemoval(to, b)
}

// remember adds the keys of the rows read to the list, if deletes are looked for.
func (s *Source) remember(k known, f *fetched) (known, error) {
	if s.remover == nil || len(f.keys) == 0 {
		return k, nil
	}
	columns := f.rows.Records[0].Columns()
	kinds := make([]int, len(s.Key))
	for i, name := range s.Key {
		kinds[i] = int(columns.Kind(columns.Index(name)))
	}
	k, err := s.remover.store.add(k, f.keys, kinds, 0)
	return k, s.wrap(err)
}
