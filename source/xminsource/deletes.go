package xminsource

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Deletes lets a Source deliver deletes. It remembers the keys that it has delivered, and looks in key passes, between two of
// its passes over the row versions, which of them the table does not have any more.
type Deletes struct {
	// Dir is the directory for the keys. Each delivered version takes about 10 bytes with an integer key, otherwise about the
	// length of the key. The next key pass leaves one entry for each row. During a key pass the directory has up to three times
	// that, and 16 bytes for each row. It belongs to the checkpoint: back them up and move them together. It is created if it does
	// not exist. The first Fetch locks it until Close, also in a replica that has lost its lease: close its Source.
	Dir string

	// Every is the shortest time from the start of a key pass to the start of the next. A key pass reads all keys of the
	// table. 0 means that each poll begins one. Batch.AsOf is at most when the last complete one began. A long time lets
	// the list grow: with 1,000 updates a second and an integer key, by about 0.8 GB a day.
	Every time.Duration
}

// openKeys takes the directory, and requires that it has the list of a cursor.
func (s *Source) openKeys(p position, at source.Cursor) (known, error) {
	d := s.remover
	if d == nil {
		if s.Deletes.Dir == "" {
			return known{}, s.permanent("Deletes.Dir is empty: it must be a directory for the keys that were delivered")
		}
		dir, err := statedir.Open(s.Deletes.Dir)
		if err != nil {
			return known{}, s.wrap(err)
		}
		d = &remover{Deletes: *s.Deletes, store: &store{dir: dir, path: s.Deletes.Dir, random: rand.Uint64}}
		if err := d.store.sweepScratch(); err != nil {
			return known{}, s.wrap(errors.Join(err, dir.Close()))
		}
		s.remover = d
	}
	if !p.known.remembered() && (p.from != 0 || p.inPass()) {
		return known{}, s.permanent("%w: the cursor was made without Deletes; %s", ErrKeys, keysAdvice)
	}
	k, err := d.open(p.known, at)
	return k, s.wrap(err)
}

// Close releases the directory of Deletes. The next Fetch takes it again.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.remover
	if d == nil {
		return nil
	}
	d.sweep.close()
	d.list.close()
	d.store.use(nil)
	s.remover = nil
	return s.wrap(d.store.dir.Close())
}

// sweepKeys goes on with a key pass if one is due. It has moved the cursor if there are keys to look up.
func (s *Source) sweepKeys(ctx context.Context, p position, b *source.Batch[row.Change]) (moved bool, err error) {
	d := s.remover
	if d.turn {
		d.turn = false
		return false, nil
	}
	if p.from == 0 || d.sweep == nil && !d.due(d.now(p.known, b.From)) {
		return false, nil
	}
	if err := s.readKeys(ctx, p); err != nil || !d.sweep.ended {
		return false, err
	}
	p.history.mark = max(p.history.mark, d.sweep.durable)
	if p.known, moved, err = d.swept(ctx, p.known, b.From); err != nil || !moved {
		return false, s.wrap(err)
	}
	b.More = true
	b.To, err = s.encode(p)
	return true, err
}

// readKeys reads keys of the table for a while. After an error of the database it goes on from there.
func (s *Source) readKeys(ctx context.Context, p position) (err error) {
	d := s.remover
	for begun := time.Now(); d.sweep == nil || !d.sweep.ended; {
		var failed error
		err := s.withDB(ctx, func(db queryer) error {
			if d.sweep == nil {
				return s.beginSweep(ctx, db, p)
			}
			next, same, err := s.readPage(ctx, db, p)
			switch {
			case err != nil:
				return err
			case !same:
				d.endSweep()
			default:
				failed = s.see(next)
			}
			return nil
		})
		if failed != nil {
			d.endSweep()
		}
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if d.sweep != nil && time.Since(begun) > sweepFor {
			break
		}
	}
	return nil
}

// beginSweep begins a key pass on a server that has every delivered version.
func (s *Source) beginSweep(ctx context.Context, db queryer, p position) error {
	st, err := s.follow(ctx, db, p)
	if err != nil {
		return err
	}
	types, err := s.guard.keyTypes(ctx, db)
	if err != nil {
		return err
	}
	w, err := newSweep(s.remover.store, p.known)
	if err != nil {
		return s.wrap(err)
	}
	w.began, w.mark, w.types = millis(time.Now()), st.history.Mark, types
	if w.durable = w.mark; !st.history.Standby { // a crash can take back the rest
		w.durable = min(w.mark, st.history.Flushed)
	}
	if !st.at.IsZero() {
		w.asOf = millis(st.at)
	}
	s.remover.sweep = w
	return nil
}

// follow reads the state of a server, and requires that it continues the history of a cursor.
func (s *Source) follow(ctx context.Context, db queryer, p position) (state, error) {
	if err := s.guard.probe(ctx, db); err != nil {
		return state{}, err
	}
	st, err := s.readState(ctx, db)
	if err == nil {
		err = s.refused(p.follows(st))
	}
	return st, err
}

// readPage reads the next keys. A server that has not replayed what the first one had shows rows that are deleted. It is not the
// same if the type of the key has changed since the key pass began: the keys that were read can have another form.
func (s *Source) readPage(ctx context.Context, db queryer, p position) (next page, same bool, err error) {
	w := s.remover.sweep
	st, err := s.follow(ctx, db, p)
	if err == nil && st.history.Mark < w.mark {
		err = s.wrap(errBehind)
	}
	if err != nil {
		return next, false, err
	}
	types, err := s.guard.keyTypes(ctx, db)
	if same = slices.Equal(types, w.types); err != nil || !same {
		return next, same, err
	}
	s.guard.key = types
	next, err = s.guard.keysAfter(ctx, db, w.after, w.page)
	return next, same, s.wrap(err)
}

// see notes the keys of a page.
func (s *Source) see(next page) error {
	w, rest := s.remover.sweep, next.keys
	var packed []byte
	values := make([][]byte, 0, len(s.Key))
	for n := 0; len(rest) > 0; n++ {
		var err error
		if packed, rest, values, err = cutPacked(rest, len(s.Key), values[:0]); err == nil {
			err = w.see(packed)
		}
		if err != nil {
			return s.wrap(err)
		}
	}
	if next.count < w.page {
		w.ended = true
		return nil
	}
	after := make([]string, len(values))
	for i, v := range values {
		after[i] = s.guard.key[i].after(string(v))
	}
	if slices.Equal(after, w.after) {
		return s.wrap(errPacked)
	}
	w.after = after
	w.page = min(max(w.page*pageBytes/(len(next.keys)+1), firstPage/10), maxPage)
	return nil
}
