package xminsource

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// The model is a small Postgres: transactions with subtransactions, row versions, a log of which a part is on
// disk, places that are used again, and ids on a ring of 2^8. A reader reads it while writers write. It has neither
// nested savepoints nor partitions nor standbys.

const (
	modelKeys = 4
	ring      = 1 << 8
)

type status int

const (
	running status = iota
	committed
	aborted
)

// writer is a transaction.
type writer struct {
	top     uint64 // its id, 0 before it has written anything
	sub     *savepoint
	state   status
	async   bool
	commit  int // the end of its commit in the log
	waiting bool
}

type savepoint struct {
	id     uint64
	undone bool
}

// tuple is a row version. A deletion is one, too.
type tuple struct {
	n       int // versions of one key are written in this order
	key     int
	id      uint64 // xmin, with its epoch
	by      *writer
	sub     *savepoint
	deleted bool
	place   int
}

func (v *tuple) visible() bool { return v.by.state == committed && (v.sub == nil || !v.sub.undone) }

type world struct {
	rand    *rand.Rand
	next    uint64 // the next id
	writers []*writer
	rows    [modelKeys][]*tuple
	count   int // versions

	log     []uint64 // the ids of its records
	flushed int      // how many are on disk
	boot    int
	file    int
	places  int   // the next free one
	free    []int // places of versions that VACUUM has removed
}

// open is how many transactions run at once.
const open = 3

func newWorld(seed uint64) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 1)), next: 100}
	for range open {
		w.writers = append(w.writers, &writer{})
	}
	return w
}

func (w *world) record(id uint64) { w.log = append(w.log, id) }

// oldest is pg_snapshot_xmin.
func (w *world) oldest() uint64 {
	oldest := w.next
	for _, t := range w.writers {
		if t.top != 0 {
			oldest = min(oldest, t.top)
		}
	}
	return oldest
}

func (w *world) newest(key int) *tuple {
	if chain := w.rows[key]; len(chain) > 0 {
		return chain[len(chain)-1]
	}
	return nil
}

// visible returns the version of a key that a statement sees, or nil.
func (w *world) visible(key int) *tuple {
	for _, v := range slices.Backward(w.rows[key]) {
		if v.visible() {
			if v.deleted {
				return nil
			}
			return v
		}
	}
	return nil
}

// write lets a transaction write a key, unless another one has locked it.
func (w *world) write(t *writer, key int) {
	last := w.newest(key)
	if last != nil && last.by.state == running && last.by != t {
		return
	}
	id := t.id(w)
	w.count++
	v := &tuple{n: w.count, key: key, id: id, by: t, sub: t.sub, deleted: last != nil && !last.deleted && w.rand.IntN(5) == 0, place: w.place()}
	w.rows[key] = append(w.rows[key], v)
	w.record(id)
}

func (w *world) place() int {
	if n := len(w.free); n > 0 {
		place := w.free[n-1]
		w.free = w.free[:n-1]
		return place
	}
	w.places++
	return w.places
}

// id returns the id of the transaction or of its subtransaction, as soon as it is needed.
func (t *writer) id(w *world) uint64 {
	if t.top == 0 {
		t.top = w.next
		w.next++
	}
	if t.sub == nil {
		return t.top
	}
	if t.sub.id == 0 {
		t.sub.id = w.next
		w.next++
	}
	return t.sub.id
}

// remove removes the versions for which dead is true.
func (w *world) remove(dead func(*tuple) bool) {
	for key := range w.rows {
		w.rows[key] = slices.DeleteFunc(w.rows[key], dead)
	}
}

func (w *world) end(i int, state status) {
	t := w.writers[i]
	if t.state = state; t.top != 0 {
		w.record(t.top)
	}
	t.commit = len(w.log)
	w.remove(func(v *tuple) bool { return v.by == t && !v.visible() })
	if state == committed && !t.async {
		w.flushed = len(w.log)
	}
	w.writers[i] = &writer{async: w.rand.IntN(3) == 0}
}

// crash loses what is not on disk. The ids that it takes back are given out again.
func (w *world) crash() {
	w.log = w.log[:w.flushed]
	w.next = 100
	for _, id := range w.log {
		w.next = max(w.next, id+1)
	}
	w.boot++
	for i, t := range w.writers {
		if t.waiting { // a prepared transaction survives
			continue
		}
		t.state = aborted
		w.writers[i] = &writer{}
	}
	w.remove(func(v *tuple) bool {
		return v.by.state == aborted || v.by.state == committed && v.by.commit > w.flushed
	})
}

// rewrite moves the versions, as VACUUM FULL does.
func (w *world) rewrite() {
	w.file++
	var all []*tuple
	for _, chain := range w.rows {
		all = append(all, chain...)
	}
	w.free, w.places = nil, len(all)
	for i, place := range w.rand.Perm(len(all)) {
		all[i].place = place
	}
}

// vacuum removes versions that nobody sees. Their places are used again.
func (w *world) vacuum() {
	for key, chain := range w.rows {
		for i := len(chain) - 1; i > 0; i-- {
			if chain[i].visible() {
				for _, v := range chain[:i] {
					w.free = append(w.free, v.place)
				}
				w.rows[key] = chain[i:]
				break
			}
		}
	}
}

// step lets somebody other than the reader do something.
func (w *world) step() {
	i := w.rand.IntN(open)
	t := w.writers[i]
	action := w.rand.IntN(100)
	if t.waiting && action < 80 { // a prepared transaction can only end
		if action < 10 {
			w.end(i, committed)
		}
		return
	}
	switch {
	case action < 40:
		w.write(t, w.rand.IntN(modelKeys))
	case action < 50:
		t.sub = &savepoint{} // an earlier one is released
	case action < 55 && t.sub != nil:
		undone := t.sub
		undone.undone, t.sub = true, nil
		w.remove(func(v *tuple) bool { return v.sub == undone })
	case action < 72:
		w.end(i, committed)
	case action < 77:
		w.end(i, aborted)
	case action < 79 && t.top != 0:
		t.waiting = true
		w.record(t.top)
		w.flushed = len(w.log)
	case action < 86:
		w.flushed = len(w.log)
	case action < 88:
		w.crash()
	case action < 91:
		w.rewrite()
	case action < 96:
		w.vacuum()
	case w.next-w.oldest() < ring/4: // transactions of other tables
		w.next += 1 + w.rand.Uint64N(ring/8)
		w.record(w.next - 1)
	}
}

// finish ends all transactions.
func (w *world) finish() {
	for i := range w.writers {
		w.end(i, committed)
	}
	w.flushed = len(w.log)
}

func (v *tuple) String() string {
	return fmt.Sprintf("version %d of key %d, id %d", v.n, v.key, v.id)
}
