package xminsource

import (
	"fmt"
	"slices"
)

// reader is the algorithm of Source, step by step: other things happen between any two of them.
type reader struct {
	*world
	fault fault
	wrong error

	// The cursor, which is saved together with what is delivered.
	from, below uint64
	key         int // the last key of the pass, -1 before the first
	visibleIn   snapshot
	deletes     modelDeletes

	// What a restart forgets.
	candidate *modelCandidate
	list      *modelList
	batch     *modelBatch

	last    [modelKeys]*tuple // what the sink has
	rereads int               // how often all rows were read again
	at      [modelKeys]int    // the value of rereads when last came
}

type modelCandidate struct {
	below uint64
	mark  int
	boot  int
	seen  snapshot
}

// modelBatch was read, and waits until the log is on disk. The versions that it left out were overwritten by then.
type modelBatch struct {
	versions []*tuple
	key      int
	ended    bool
	mark     int
	boot     int
}

type modelList struct {
	boot, file int
	places     []int
	next       int
}

// snapshot is what pg_visible_in_snapshot looks at.
type snapshot struct {
	max  uint64
	list []uint64
}

func (w *world) snapshot() snapshot {
	s := snapshot{max: w.next}
	for _, t := range w.writers {
		if t.top != 0 {
			s.list = append(s.list, t.top)
		}
	}
	return s
}

func (s snapshot) sees(id uint64) bool { return id < s.max && !slices.Contains(s.list, id) }

func (r *reader) inPass() bool { return r.below != 0 }

func (r *reader) restart() {
	r.candidate, r.list, r.batch = nil, nil, nil
	r.deletes.restart()
	if !r.inPass() {
		return
	}
	switch r.fault {
	case noKey:
		r.from, r.below, r.key = r.below, 0, -1
	case noKeyAgain:
		r.key = -1
	case freshX1:
		r.below = r.oldest()
	}
}

// step is one statement of the reader.
func (r *reader) step() {
	switch {
	case !r.inPass():
		if !r.stepDeletes() {
			r.begin()
		}
	case r.batch != nil:
		r.deliverBatch()
	case r.from != 0 && (r.list == nil || r.fault != oldPlaces && (r.list.boot != r.boot || r.list.file != r.file)):
		r.list = r.scan()
	default:
		r.read()
	}
}

func (r *reader) begin() {
	if c := r.candidate; c == nil || c.boot != r.boot {
		r.candidate = &modelCandidate{below: r.oldest(), mark: len(r.log), boot: r.boot, seen: r.snapshot()}
		switch r.fault {
		case upToNext:
			r.candidate.below = r.next
		case subAsTop:
			r.candidate.below = r.next
			for _, t := range r.writers {
				if t.sub != nil && t.sub.id != 0 {
					r.candidate.below = min(r.candidate.below, t.sub.id)
				} else if t.top != 0 {
					r.candidate.below = min(r.candidate.below, t.top)
				}
			}
		}
		return
	}
	c := r.candidate
	if r.flushed < c.mark && r.fault != notDurable {
		return
	}
	r.candidate = nil
	if r.from != 0 && r.next-r.from > ring/2-ring/8 { // too far back: all rows are read again
		r.from = 0
		r.rereads++
	}
	if c.below <= r.from && r.fault != visibleInstead {
		return
	}
	r.below, r.key, r.list = c.below, -1, nil
	if r.fault == lateSnapshot && r.from != 0 {
		r.below = r.next
		r.list = r.scan()
		r.below = 1 << 60 // it is read with the first batch
	}
	if r.fault == visibleInstead && r.from != 0 {
		r.below = 1 << 60
		r.list = r.scan()
	}
}

// takes is the condition for a version of the pass.
func (r *reader) takes(v *tuple) bool {
	id, width := v.id%ring, r.below-r.from
	distance := (v.id - r.from) % ring
	if r.from == 0 {
		// A version that is as far back as others are ahead has their place on the ring, and comes with them.
		ahead := (r.next-1-v.id)%ring < r.next-r.below || r.fault == inclusive && v.id == r.below
		if r.fault == firstBelowAlone {
			return !ahead && (r.next-v.id)%ring < ring/2
		}
		return !ahead
	}
	switch r.fault {
	case visibleInstead:
		return !r.visibleIn.sees(v.id)
	case inclusive:
		width++
	case exclusive:
		if distance == 0 {
			return false
		}
	case noEpoch:
		return id >= r.from%ring && id < r.below%ring
	}
	return distance < width
}

// scan makes the list of the places of the pass, after the key.
func (r *reader) scan() *modelList {
	l := &modelList{boot: r.boot, file: r.file}
	for key := r.key + 1; key < modelKeys; key++ {
		if v := r.visible(key); v != nil && r.takes(v) {
			l.places = append(l.places, v.place)
		}
	}
	return l
}

// read reads one or two versions.
func (r *reader) read() {
	n := 1 + r.rand.IntN(2)
	if r.fault == lateSnapshot && r.below == 1<<60 {
		r.below = r.oldest()
	}
	b := &modelBatch{key: r.key, mark: len(r.log), boot: r.boot}
	r.batch = b
	if r.from == 0 {
		for key := r.key + 1; key < modelKeys && n > 0; key++ {
			if v := r.visible(key); v != nil && r.takes(v) {
				b.versions = append(b.versions, v)
				n--
			}
			b.key = key
		}
		b.ended = b.key == modelKeys-1
	} else {
		piece := r.list.places[r.list.next:min(r.list.next+n, len(r.list.places))]
		for key := r.key + 1; key < modelKeys; key++ { // in the order of the key
			v := r.visible(key)
			if v != nil && slices.Contains(piece, v.place) && (r.fault == unchecked || r.takes(v)) {
				b.versions, b.key = append(b.versions, v), key
			}
		}
		r.list.next += len(piece)
		b.ended = r.list.next == len(r.list.places)
	}
	if r.fault == noWait || r.flushed >= b.mark {
		r.deliverBatch()
	}
}

// deliverBatch delivers the rows read, if they are still true.
func (r *reader) deliverBatch() {
	b := r.batch
	switch {
	case b.boot != r.boot && r.fault != noWait:
		r.batch, r.list = nil, nil
		return
	case r.flushed < b.mark && r.fault != noWait:
		return
	}
	for _, v := range b.versions {
		r.deliver(v)
	}
	if r.key, r.batch = b.key, nil; b.ended {
		r.end()
	}
}

func (r *reader) end() {
	if r.fault == visibleInstead {
		r.below = r.oldest()
		r.visibleIn = r.snapshot()
	}
	r.from, r.below, r.key, r.list = r.below, 0, -1, nil
}

func (r *reader) deliver(v *tuple) {
	last := r.last[v.key]
	switch again := r.at[v.key] < r.rereads || r.next-v.id >= ring/2; {
	case last == nil:
	case v.n < last.n:
		r.fail("%v came after %v", v, last)
	case v.n == last.n && !again:
		r.fail("%v came twice", v)
	}
	r.last[v.key], r.at[v.key] = v, r.rereads
	r.deletes.deleted[v.key] = false
	r.deletes.known[v.key] = r.fault != onlySwept || r.deletes.known[v.key]
}

// compare compares the sink with the table.
func (r *reader) compare() {
	r.compareDeletes()
	for key := range modelKeys {
		v, last := r.visible(key), r.last[key]
		if v != nil && v != last {
			r.fail("%v is lost, the sink has %v", v, last)
		}
	}
}

func (r *reader) fail(format string, args ...any) {
	if r.wrong == nil {
		r.wrong = fmt.Errorf(format, args...)
	}
}
