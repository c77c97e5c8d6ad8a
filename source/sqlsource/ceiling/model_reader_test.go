package ceiling

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"
)

// variant is a reader with a fault. The zero value has none.
type variant struct {
	byXID    bool // no fault: it is transactionID
	toNext   bool // ... that reads up to the next transaction, not to the oldest
	rises    bool // ... whose limit is found again by the statement that reads the rows alone
	lateXmin bool // ... whose limit is found after the rows were read

	listFirst   bool  // the list is read before the greatest key
	listBefore  bool  // the list is that of the poll before
	listOnce    bool  // the list is kept over a restart
	watch       uint8 // the locks that are looked at; 0: all
	noPrepared  bool  // prepared transactions are forgotten
	noHeirs     bool  // they are not told to be one that was listed
	heirOfGone  bool  // they inherit from those whose ids have vanished
	oneSnapshot bool  // rows are read with the snapshot of the greatest key
	unfenced    bool  // rows are read up to the greatest key
	xmin        bool  // rows are read whose transactions are below the snapshot's xmin
	xminFence   bool  // a fence is settled when the snapshot's xmin has passed its earlier xmax
	noWait      bool  // rows are read that may not be on disk
	staleReach  bool  // a ceiling that waits for the disk is kept over a restart
	stopAtMax   bool  // the fence that is moved keeps its number
	zeroSettled bool  // nothing settled is 0, which is a key
}

// query is what a reader does next.
type query int8

const (
	readTop query = iota
	readLocks
	readMark
	readRows
)

// reader is lockFence, and what a source does around it, a statement at a time.
type reader struct {
	cursor int64
	polls  int8
	pc     query
	boot   int8 // of the list before

	top, high int64
	snapshot  uint32
	xmax      int8

	settled int64
	fences  *Fences[int64]     // replaced, not changed, so that copies of the reader may share it
	list    map[string]*Holder // for variants
	passing []fence[int64]     // for variants: each number is an xmax

	reached   bool // all below is of a ceiling that was found
	limit     int64
	mark      int8
	durable   bool
	reachBoot int8

	delivered uint32
}

func newReader(v variant) reader {
	r := reader{cursor: math.MinInt64, settled: math.MinInt64, fences: &Fences[int64]{}}
	if v.zeroSettled {
		r.settled = 0
	}
	if v.listFirst {
		r.pc = readLocks
	}
	return r
}

// maxRows is how many rows a batch has at most.
const maxRows = 2

// step does the next statement. It reports whether a poll ended with it.
func (r *reader) step(w *world) (ended bool) {
	d, v := &w.db, w.variant
	switch r.pc {
	case readTop:
		if r.reached {
			r.pc = readRows
			return r.step(w)
		}
		return r.readTop(w)
	case readLocks:
		return r.readLocks(w)
	case readMark:
		r.mark, r.reachBoot = d.lsn, d.boot
		r.durable = !w.async || v.noWait || d.flushed >= d.lsn
		r.reached, r.pc = true, readRows
		return false
	}
	return r.readRows(w)
}

// again begins the next poll.
func (r *reader) again(v variant) bool {
	r.pc = readTop
	if v.listFirst && !r.reached {
		r.pc = readLocks
	}
	return true
}

func (r *reader) readTop(w *world) (ended bool) {
	d, v := &w.db, w.variant
	above := d.visible &^ w.upTo(r.cursor)
	if above == 0 {
		return r.again(v)
	}
	r.snapshot, r.xmax = d.visible, d.nextXID
	if v.byXID {
		r.limit, r.pc = firstKey(d.snapshotXmin())-1, readMark
		if v.toNext {
			r.limit = firstKey(d.nextXID) - 1
		}
		return false
	}
	r.top = w.key(bits.Len32(above) - 1)
	r.high = min(r.top, w.key(int(d.seq)-1))
	switch {
	case v.unfenced:
		r.limit, r.pc = r.top, readMark
	case v.xmin:
		r.limit, r.pc = math.MaxInt64, readMark
	case v.listFirst:
		r.fences = cloned(r.fences)
		return r.fence(w, clonedHolders(r.list))
	default:
		r.pc = readLocks
	}
	return false
}

func (r *reader) readLocks(w *world) (ended bool) {
	d, v := &w.db, w.variant
	watched := uint8(everything)
	if v.watch != 0 {
		watched = v.watch
	}
	now := d.locks(watched)
	for id, h := range now {
		if h.Prepared && v.noPrepared {
			delete(now, id)
		}
		if v.noHeirs {
			h.Inherits = false
		}
	}
	if v.listBefore {
		now, r.list = r.list, now
		now = clonedHolders(now)
	}
	r.fences = cloned(r.fences)
	if r.boot != d.boot && !v.listOnce && w.noticed {
		r.fences.Forget()
		r.passing = nil
		r.settled = math.MinInt64
	}
	r.boot = d.boot
	if v.listFirst {
		r.list, r.pc = now, readTop
		return false
	}
	return r.fence(w, now)
}

func (r *reader) fence(w *world, now map[string]*Holder) (ended bool) {
	d, v := &w.db, w.variant
	var places map[string]int64
	if v.heirOfGone {
		places = r.placesOfGone(now)
	}
	full := len(r.fences.waiting) == MaxFences
	var last int64
	if full {
		last = r.fences.waiting[MaxFences-1].number
	}
	r.fences.Set(r.high, time.Time{}, now)
	for id, first := range places {
		now[id].first = min(first, r.fences.last)
	}
	if full && v.stopAtMax {
		r.fences.waiting[MaxFences-1].number = last
	}
	if v.xminFence {
		r.passing = append(slices.Clone(r.passing), fence[int64]{number: int64(r.xmax), high: r.high})
		for len(r.passing) > 0 && int64(d.snapshotXmin()) >= r.passing[0].number {
			r.settled = max(r.settled, r.passing[0].high)
			r.passing = r.passing[1:]
		}
	} else if high, _, ok := r.fences.Settle(); ok {
		r.settled = max(r.settled, high)
	}
	if r.settled <= r.cursor {
		return r.again(v)
	}
	r.limit, r.pc = r.settled, readMark
	return false
}

// placesOfGone returns the places of new heirs if they inherited from those only
// whose ids have vanished.
func (r *reader) placesOfGone(now map[string]*Holder) map[string]int64 {
	first := int64(math.MaxInt64)
	for id, h := range r.fences.holders {
		if _, still := now[id]; !still {
			first = min(first, h.first)
		}
	}
	places := map[string]int64{}
	for id, h := range now {
		if _, old := r.fences.holders[id]; h.Inherits && !old {
			places[id] = first
		}
	}
	return places
}

func (r *reader) readRows(w *world) (ended bool) {
	d, v := &w.db, w.variant
	if !r.durable {
		if r.reachBoot != d.boot && !v.staleReach {
			r.reached = false
			return r.again(v)
		}
		r.durable = d.flushed >= r.mark
		if !r.durable {
			return r.again(v)
		}
	}
	rows := d.visible
	if v.oneSnapshot || v.lateXmin {
		rows = r.snapshot
	}
	limit := r.limit
	if v.byXID && !v.toNext {
		now := firstKey(d.snapshotXmin()) - 1
		if limit = min(limit, now); v.rises || v.lateXmin {
			limit = now
		}
	}
	rows &= w.upTo(limit) &^ w.upTo(r.cursor)
	if v.xmin {
		for ids := rows; ids != 0; ids &= ids - 1 {
			if i := bits.TrailingZeros32(ids); d.xids[i] >= d.snapshotXmin() {
				rows &^= 1 << i
			}
		}
	}
	r.reached = bits.OnesCount32(rows) > maxRows
	for n := 0; n < maxRows && rows != 0; n++ {
		i := w.lowestOf(rows)
		rows &^= 1 << i
		r.delivered |= 1 << i
		r.cursor = w.key(i)
	}
	return r.again(v)
}

// lowestOf returns the row with the smallest key.
func (w *world) lowestOf(rows uint32) int {
	first := bits.TrailingZeros32(rows)
	for rest := rows; w.byXID && rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros32(rest); w.key(i) < w.key(first) {
			first = i
		}
	}
	return first
}

// cut is what a restart of the server does to a poll.
func (r *reader) cut(v variant) {
	if r.pc != readTop {
		r.again(v)
	}
}

func cloned(f *Fences[int64]) *Fences[int64] {
	return &Fences[int64]{f.last, slices.Clone(f.waiting), clonedHolders(f.holders)}
}

func clonedHolders(all map[string]*Holder) map[string]*Holder {
	all = maps.Clone(all)
	for id, h := range all {
		c := *h
		all[id] = &c
	}
	return all
}
