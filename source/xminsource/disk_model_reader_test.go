package xminsource

import (
	"context"
	"maps"
	"slices"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/sink/durable"
)

// fetch does what Source does with its lists.
func (w *keyWorld) fetch(at keyCursor) (b *keyBatch, err error) {
	b = &keyBatch{from: at, to: at}
	if w.early {
		w.d.before = at.pass + 1
		_ = w.d.store.clean(listID{at.lineage, at.pass + 1})
	}
	if w.noAdopt {
		w.d.next = at.text()
	}
	if at.known, err = w.d.open(at.known, at.text()); err != nil {
		return b, err
	}
	d := w.d
	b.to = at
	b.to.n++
	defer func() {
		if err != nil {
			return
		}
		if b.to.known == b.from.known {
			b.to.n = b.from.n
		}
		d.returned(b.from.text(), b.to.text())
		for _, k := range b.gone {
			w.maybe[k] = true
		}
	}()
	switch {
	case at.missing > 0:
		return b, w.lookUp(b)
	case w.rand.IntN(3) == 0:
		return b, w.sweep(b)
	}
	for _, k := range slices.Sorted(maps.Keys(w.table)) {
		if !w.copied[k] || w.rand.IntN(4) == 0 {
			b.added = append(b.added, k)
			w.maybe[k] = true // also if the Fetch fails
		}
	}
	if w.onward && d.store.out != nil {
		at.keys = d.store.out.at
	}
	b.to.known, err = d.store.add(at.known, b.added, []int{0}, 0)
	return b, err
}

func (w *keyWorld) sweep(b *keyBatch) (err error) {
	d := w.d
	d.turn = false
	if d.sweep == nil {
		if d.sweep, err = newSweep(d.store, b.to.known); err != nil {
			return err
		}
		if w.rand.IntN(2) == 0 { // as with many keys
			for range 2 {
				f, err := newScratch(d.store)
				if err != nil {
					return err
				}
				d.sweep.seen = append(d.sweep.seen, f)
				d.sweep.parts++
			}
		}
		for _, k := range slices.Sorted(maps.Keys(w.table)) {
			packed, err := pack(nil, []byte(k))
			if err == nil {
				err = d.sweep.see(packed)
			}
			if err != nil {
				d.endSweep()
				return err
			}
		}
		w.change() // the table changes after the read
	}
	b.to.known, _, err = d.swept(context.Background(), b.to.known, b.from.text())
	if err != nil {
		d.endSweep()
	}
	return err
}

// lookUp looks up missing keys.
func (w *keyWorld) lookUp(b *keyBatch) (err error) {
	d, at := w.d, b.to.known
	f := &lookedUp{}
	if f.keys, err = d.take(at, 1+w.rand.IntN(4)); err != nil {
		return err
	}
	for _, k := range f.keys {
		found := absent
		if w.table[k] {
			found = present
		}
		f.found = append(f.found, found)
	}
	b.to.known, b.gone, err = d.judge(at, f)
	if w.dropKept {
		b.to.keys, b.to.entries = at.keys, at.entries
	}
	b.to.known = d.ended(b.to.known)
	return err
}

// keyDisk is a model of a disk as a directory.
type keyDisk struct {
	*disktest.Disk
	w *keyWorld
}

func (d keyDisk) Read(name string) (statedir.File, error) {
	f, err := d.Open(name, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (keyDisk) Close() error { return nil }

func (d keyDisk) Create(name string) (durable.File, error) {
	f, err := d.Disk.Create(name)
	if err == nil && d.w.noSync {
		f = unsynced{f}
	}
	return f, err
}

func (d keyDisk) Sync() error {
	if d.w.noDirSync {
		return nil
	}
	return d.Disk.Sync()
}

// unsynced is a file whose data is not synced.
type unsynced struct{ durable.File }

func (unsynced) Sync() error { return nil }

// List returns the names in one order, so that a seed can be replayed.
func (d keyDisk) List() ([]string, error) {
	names, err := d.Disk.List()
	slices.Sort(names)
	return names, err
}
