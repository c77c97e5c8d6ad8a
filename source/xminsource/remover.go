package xminsource

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// remover finds the deletes of a Source.
type remover struct {
	Deletes
	store *store
	sweep *sweep // the key pass that looks for missing keys; nil: none
	quiet quiet
	list  *missingKeys
	found *lookedUp
	turn  bool // a key pass has moved the cursor, and now it is the turn of the row versions

	opened  opened
	next    source.Cursor // that the last Fetch returned
	before  uint64        // the key pass of the cursor before: a checkpoint may stand there
	cleaned uint64        // lists were removed after this key pass
}

// opened is a cursor and what is known at it.
type opened struct {
	at    source.Cursor
	known known
	left  bool // a batch after it was returned
}

// quiet is a key pass that has missed no key. It does not move the cursor.
type quiet struct {
	at          source.Cursor
	began, asOf uint64
}

const (
	lookUp     = 1000            // keys that are looked up at once
	sweepFor   = 2 * time.Second // how long one Fetch reads keys
	maxLinks   = 64              // segments of a list, before it is written again
	repetition = 10_000          // repetitions in a list, besides as many as it has keys
)

// open requires that the lists of a cursor are there, and returns what is known at it. It removes those that no cursor needs any
// more. Those of one key pass more stay, for a cursor that is set back a little.
func (d *remover) open(k known, at source.Cursor) (known, error) {
	switch {
	case !k.remembered():
		return k, nil
	case d.opened.at == at && !d.opened.left:
		k = d.opened.known
	case d.next != at: // a process that died, or a Fetch that was repeated, may have gone on from here
		for _, end := range []listPlace{k.keys, k.gone} {
			if _, err := d.store.open(listID{k.lineage, k.pass}, end); err != nil {
				return k, err
			}
		}
		if k.missing > 0 && !k.halfway {
			break // the batch after it has no new key
		}
		var err error
		if k, err = d.store.adopt(k); err != nil {
			return k, err
		}
	}
	d.opened = opened{at, k, false}
	if keep := min(k.pass, d.before); keep > d.cleaned {
		if err := d.store.clean(listID{k.lineage, keep - 1}); err != nil {
			return k, err
		}
		d.cleaned = keep
	}
	d.before = k.pass
	return k, nil
}

// returned notes the cursor after a batch.
func (d *remover) returned(from, to source.Cursor) {
	d.next = to
	d.opened.left = d.opened.left || from != to
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

// hold says that a key pass goes on in the next Fetch, so that the caller neither waits for its interval nor ends. Each batch
// begins a new hold, because the key pass makes progress.
func (d *remover) hold(b *source.Batch[row.Change]) {
	if d.sweep == nil || b.More {
		return
	}
	if b.Held == nil {
		b.Held = &source.Held{Since: time.Now(), By: []string{"a key pass, which reads the keys of the table to find deletes"}}
	}
	b.Held.Retry = time.Millisecond
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

// swept ends a key pass that has read the table's keys, and returns what the cursor knows then. If no key is missing, the
// cursor stays.
func (d *remover) swept(ctx context.Context, k known, at source.Cursor) (next known, moved bool, err error) {
	w := d.sweep
	m, err := w.compare(ctx, k)
	if err != nil {
		return k, false, err
	}
	defer d.endSweep()
	next = known{lineage: k.lineage, pass: k.pass + 1, entries: m.keys.count, missing: m.gone.count, began: w.began, asOf: w.asOf}
	if next.missing == 0 && k.entries <= 2*next.entries+repetition && m.links <= maxLinks {
		d.quiet = quiet{at, w.began, w.asOf}
		return k, false, nil
	}
	if next.keys, err = m.keys.sync(); err == nil {
		next.gone, err = m.gone.sync()
	}
	d.turn = next.missing == 0
	return next, true, d.store.wrap("write", err)
}

func (d *remover) endSweep() {
	d.sweep.close()
	d.sweep = nil
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

// judge returns which of the keys that were looked up are gone, and what the cursor knows when they were delivered. It stops
// at a key that an equal one has replaced, and takes that alone.
func (d *remover) judge(k known, f *lookedUp) (next known, gone []sqlsource.Key, err error) {
	n := slices.Index(f.found, equal)
	switch n {
	case -1:
		n = len(f.keys)
	case 0:
		k.halfway = true
		return k, f.keys[:1], nil
	}
	var kept []sqlsource.Key
	for i, key := range f.keys[:n] {
		if f.found[i] == present {
			kept = append(kept, key)
		} else {
			gone = append(gone, key)
		}
	}
	k.taken += uint64(n)
	next, err = d.store.add(k, kept, d.list.from.kinds, repeated)
	return next, gone, err
}

// ended returns what a cursor knows after the last missing key: then the key pass has ended.
func (d *remover) ended(k known) known {
	if k.taken == k.missing {
		k.gone, k.missing, k.taken, d.turn = listPlace{}, 0, 0, true
	}
	return k
}
