package xminsource

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Deletes lets a Source deliver deletes. It remembers the keys that it has delivered, and looks in key passes, between two of
// its passes over the row versions, which of them the table does not have any more.
type Deletes struct {
	// Dir is the directory for the keys: about 10 bytes for each row with an integer key, otherwise about the length of the
	// key, up to three times that during a key pass, and 16 bytes for each row. It belongs to the checkpoint: back them up
	// and move them together. It is created if it does not exist.
	Dir string

	// Every is the shortest time from the start of a key pass to the start of the next. A key pass reads all keys of the
	// table. 0 means that each poll begins one.
	Every time.Duration
}

// remover finds the deletes of a Source.
type remover struct {
	Deletes
	store *store
	sweep *sweep // the key pass that looks for missing keys; nil: none
	quiet quiet
	list  *missingKeys
	found *lookedUp
	turn  bool // a key pass has moved the cursor, and now it is the turn of the row versions

	verified source.Cursor // the list of this one was found
	before   uint64        // the key pass of the cursor before: a checkpoint may stand there
	cleaned  uint64        // lists of key passes before it were removed
}

// quiet is a key pass that has missed no key. It does not move the cursor.
type quiet struct {
	at          source.Cursor
	began, asOf uint64
}

const (
	lookUp     = 1000        // keys that are looked up at once
	sweepFor   = time.Second // how long one Fetch reads keys
	maxLinks   = 64          // segments of a list, before it is written again
	repetition = 10_000      // repetitions in a list, besides as many as it has keys
)

// openKeys takes the directory, and requires that it has the list of a cursor.
func (s *Source) openKeys(p position, at source.Cursor) error {
	d := s.remover
	if d == nil {
		if s.Deletes.Dir == "" {
			return s.permanent("Deletes.Dir is empty: it must be a directory for the keys that were delivered")
		}
		dir, err := openDirectory(s.Deletes.Dir)
		if err != nil {
			return s.wrap(err)
		}
		d = &remover{Deletes: *s.Deletes, store: &store{dir: dir, path: s.Deletes.Dir, table: s.Name, random: rand.Uint64}}
		if err := d.store.sweepScratch(); err != nil {
			return s.wrap(errors.Join(err, dir.close()))
		}
		s.remover = d
		d.before = p.known.pass
	}
	k := p.known
	if !k.remembered() && (p.from != 0 || p.inPass()) {
		return s.permanent("%w: the cursor was made without Deletes; %s", ErrKeys, keysAdvice)
	}
	if d.verified != at {
		for _, end := range []listPlace{k.keys, k.gone} {
			if _, err := d.store.open(listID{k.lineage, k.pass}, end); err != nil {
				return s.wrap(err)
			}
		}
	}
	if keep := min(k.pass, d.before); k.remembered() && keep > d.cleaned {
		if err := d.store.clean(listID{k.lineage, keep}); err != nil {
			return s.wrap(err)
		}
		d.cleaned = keep
	}
	d.before = k.pass
	return nil
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
	return s.wrap(d.store.dir.close())
}

// now returns what a cursor between two passes knows, with the last key pass.
func (d *remover) now(k known, at source.Cursor) known {
	if d.quiet.at == at {
		k.began, k.asOf = d.quiet.began, d.quiet.asOf
	}
	return k
}

// due reports whether a key pass begins. A clock that was set back begins one.
func (d *remover) due(k known) bool {
	since := time.Since(timeOf(k.began))
	return since < 0 || since >= d.Every
}

// asOf limits how current a batch is to what is known of deletes.
func (d *remover) asOf(k known, b *source.Batch[row.Change]) {
	if deletes := timeOf(d.now(k, b.To).asOf); deletes.Before(b.AsOf) {
		b.AsOf = deletes
	}
}

// start returns what is known before the first row is delivered: deletes from before it do not matter.
func (d *remover) start(at time.Time) known {
	k := known{began: millis(time.Now()), asOf: millis(at)}
	for k.lineage == 0 {
		k.lineage = d.store.random()
	}
	if at.IsZero() {
		k.asOf = 0
	}
	return k
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
	w := d.sweep
	m, err := w.compare(ctx, p.known)
	if err != nil {
		return false, s.wrap(err)
	}
	k := known{lineage: p.known.lineage, pass: p.known.pass + 1, entries: m.keys.count, missing: m.gone.count, began: w.began, asOf: w.asOf}
	if k.missing == 0 && p.known.entries <= 2*k.entries+repetition && m.links <= maxLinks {
		d.quiet = quiet{b.From, w.began, w.asOf}
		d.endSweep()
		return false, nil
	}
	if k.keys, err = m.keys.sync(); err == nil {
		k.gone, err = m.gone.sync()
	}
	if err != nil {
		d.endSweep()
		return false, s.wrap(d.store.wrap("write", err))
	}
	p.known, d.turn = k, k.missing == 0
	b.More = true
	b.To, err = s.encode(p)
	d.endSweep()
	return true, err
}

func (d *remover) endSweep() {
	d.sweep.close()
	d.sweep = nil
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
			next, err := s.readPage(ctx, db, p)
			if err == nil {
				failed = s.see(next)
			}
			return err
		})
		if failed != nil {
			d.endSweep()
		}
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if time.Since(begun) > sweepFor {
			break
		}
	}
	return nil
}

// beginSweep begins a key pass on a server that has all that was delivered.
func (s *Source) beginSweep(ctx context.Context, db queryer, p position) error {
	st, err := s.follow(ctx, db, p)
	if err != nil {
		return err
	}
	w, err := newSweep(s.remover.store, p.known)
	if err != nil {
		return s.wrap(err)
	}
	w.began, w.mark = millis(time.Now()), st.history.Mark
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

// readPage reads the next keys. A server that has not replayed what the first one had shows rows that are deleted.
func (s *Source) readPage(ctx context.Context, db queryer, p position) (page, error) {
	w := s.remover.sweep
	st, err := s.follow(ctx, db, p)
	if err == nil && st.history.Mark < w.mark {
		err = s.wrap(errBehind)
	}
	if err != nil {
		return page{}, err
	}
	next, err := s.guard.keysAfter(ctx, db, w.after, w.page)
	return next, s.wrap(err)
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

// missingKeys reads the list of the keys that a key pass has missed.
type missingKeys struct {
	id    listID
	end   listPlace
	from  *keyReader
	at    uint64 // the number of the first key in the queue
	queue []sqlsource.Key
}

func (l *missingKeys) close() {
	if l != nil {
		l.from.close()
	}
}

// take returns the next keys of the list of a cursor, at most n.
func (d *remover) take(k known, n int) ([]sqlsource.Key, error) {
	id := listID{k.lineage, k.pass}
	if l := d.list; l == nil || l.id != id || l.end != k.gone || l.at > k.taken {
		l.close()
		from, err := d.store.open(id, k.gone)
		if err != nil {
			return nil, err
		}
		d.list = &missingKeys{id: id, end: k.gone, from: from}
	}
	l := d.list
	skip := min(k.taken-l.at, uint64(len(l.queue)))
	l.at, l.queue = l.at+skip, l.queue[skip:]
	for l.at+uint64(len(l.queue)) < k.taken+uint64(n) {
		key, err := l.from.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			l.close()
			d.list = nil
			return nil, err
		}
		if l.at < k.taken { // it was taken before a restart
			l.at++
			continue
		}
		l.queue = append(l.queue, keyText(key))
	}
	if len(l.queue) == 0 {
		return nil, d.store.lost(segmentName(id, k.gone.segment), errDamaged)
	}
	return slices.Clone(l.queue[:min(n, len(l.queue))]), nil
}
