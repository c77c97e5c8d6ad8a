package ceiling

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// MaxFences bounds the memory of a long wait. When as many fences wait, the newest one is
// moved instead of setting another.
const MaxFences = 256

// Fences is the bookkeeping of a strategy that waits for transactions or statements
// to end. The zero value is ready for use. It is not safe for concurrent use.
//
// A fence is set in two steps, in this order: read how far the rows go (its high), then list
// the holders: everyone who might still add a row at or below that. Once all holders have
// ended, everything up to the high is settled. Set a new fence at each poll, so that a row
// waits for no holder that came after the first poll that saw it. Only the newest of MaxFences
// fences, and a fence with an inherited holder, may wait for more.
type Fences[H any] struct {
	last    int64 // number of the newest fence ever set
	waiting []fence[H]
	holders map[string]*Holder
}

type fence[H any] struct {
	number int64
	high   H
	at     time.Time // before high was read
}

// Holder is a transaction, or a statement, that may still add rows.
type Holder struct {
	Session  int64 // what the database calls its session: the id of a process or thread
	Prepared bool  // a prepared transaction, which has no session
	Inherits bool  // it may have been listed under another id before, and keeps this one from now on

	first int64 // the first fence that it holds back; a fence is settled when all are above its number
}

// Forget drops all fences. They must be set again.
func (f *Fences[H]) Forget() { f.waiting, f.holders = nil, nil }

// Set sets a fence at high with the holders that were listed after high was read, each by an
// id that it keeps as long as it exists. At is a moment before high was read. A fence that is
// moved waits for its old holders and for the new ones.
func (f *Fences[H]) Set(high H, at time.Time, holders map[string]*Holder) {
	f.last++
	f.update(holders, f.last)
	f.waiting = appendFence(f.waiting, fence[H]{f.last, high, at})
}

// appendFence appends a fence. If there are MaxFences, it takes the place of the newest one.
func appendFence[H any](list []fence[H], n fence[H]) []fence[H] {
	return append(list[:min(len(list), MaxFences-1)], n)
}

// Watch records which holders still exist, without setting a fence.
func (f *Fences[H]) Watch(holders map[string]*Holder) { f.update(holders, f.last+1) }

// update records the current holders. A holder keeps its place as long as its id is
// listed. A new one gets the place next, or inherits that of the oldest holder that has not
// inherited its own ("Fences" in DESIGN-ceilings.md).
func (f *Fences[H]) update(now map[string]*Holder, next int64) {
	inherited := next
	for _, h := range f.holders {
		if !h.Inherits {
			inherited = min(inherited, h.first)
		}
	}
	for id, h := range now {
		switch old, ok := f.holders[id]; {
		case ok:
			h.first = old.first
		case h.Inherits:
			h.first = inherited
		default:
			h.first = next
		}
	}
	f.holders = now
}

// Settle returns the high of the newest settled fence and when that fence was set, and
// forgets it and all older ones. ok is false if no fence has been settled since.
func (f *Fences[H]) Settle() (high H, at time.Time, ok bool) {
	oldest := f.last + 1
	for _, h := range f.holders {
		oldest = min(oldest, h.first)
	}
	n := 0
	for ; n < len(f.waiting) && f.waiting[n].number < oldest; n++ {
		high, at, ok = f.waiting[n].high, f.waiting[n].at, true
	}
	f.waiting = slices.Delete(f.waiting, 0, n)
	return high, at, ok
}

// Oldest returns when the oldest waiting fence was set. ok is false if none waits.
func (f *Fences[H]) Oldest() (at time.Time, ok bool) {
	if ok = len(f.waiting) > 0; ok {
		at = f.waiting[0].at
	}
	return at, ok
}

// Holders returns the holders as they were last listed, by id.
func (f *Fences[H]) Holders() map[string]*Holder { return f.holders }

// Blockers returns the holders of the oldest fence, the oldest first.
func (f *Fences[H]) Blockers() []*Holder {
	if len(f.waiting) == 0 {
		return nil
	}
	var all []*Holder
	for _, h := range f.holders {
		if h.first <= f.waiting[0].number {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b *Holder) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.Session, b.Session))
	})
	return all
}

// Progress remembers when rows with integer keys were first seen, so that a strategy can
// say how long the first row that cannot be read has existed. The zero value is ready for
// use. It is not safe for concurrent use.
type Progress struct {
	seen []fence[int64]
	asOf time.Time
}

// See records the greatest key, which was read after at.
func (p *Progress) See(greatest int64, at time.Time) {
	if n := len(p.seen); n == 0 || p.seen[n-1].high < greatest {
		p.seen = appendFence(p.seen, fence[int64]{high: greatest, at: at})
	}
}

// Advance records that all rows up to limit can be read. At is a moment before the greatest key
// was last read. It returns a moment such that every row committed before it can be read, zero if
// none is known, and since when rows exist that cannot be read, zero if all can be.
func (p *Progress) Advance(limit int64, at time.Time) (asOf, since time.Time) {
	n := 0
	for ; n < len(p.seen) && p.seen[n].high <= limit; n++ {
		p.asOf = p.seen[n].at
	}
	if p.seen = slices.Delete(p.seen, 0, n); len(p.seen) == 0 {
		p.asOf = at
		return p.asOf, time.Time{}
	}
	return p.asOf, p.seen[0].at
}

// Limit records that all rows up to limit can be read, and returns the Limit. From is the cursor's
// key, rows were examined up to high, and no key is above greatest, as last read after at. Where
// limit is below high, the rows above it are Held, by somebody whom the caller names.
func (p *Progress) Limit(t Table, from, limit, high, greatest int64, at time.Time) Limit {
	upTo := limit
	if limit >= greatest {
		upTo = math.MaxInt64
	}
	asOf, since := p.Advance(upTo, at)
	l := Limit{Where: t.Key[0].Ref + " <= ?", Args: []any{limit}, Nothing: limit <= from, AsOf: asOf, Greatest: greatest}
	if limit < high {
		l.Held = &source.Held{Since: since}
	} else {
		l.More = limit < greatest
	}
	return l
}

// NothingAbove is Limit where no key is above base. A base above the cursor says nothing about
// how many rows are between them: they may have been deleted.
func (p *Progress) NothingAbove(t Table, from, base int64, at time.Time) Limit {
	l := p.Limit(t, from, base, base, base, at)
	if base > from {
		l.Greatest = 0
	}
	return l
}

// ages remembers values, and when they were seen.
type ages[H any] []fence[H]

// add adds a value, unless another one was added less than a 256th of wait before. It returns the
// newest value that is as old as wait, and forgets it and all older ones. ok is false without such a value.
func (a *ages[H]) add(value H, at time.Time, wait time.Duration) (old H, ok bool) {
	if n := len(*a); n == 0 || at.Sub((*a)[n-1].at) >= wait/256 {
		*a = append(*a, fence[H]{high: value, at: at})
	}
	for ; len(*a) > 0 && at.Sub((*a)[0].at) >= wait; *a = (*a)[1:] {
		old, ok = (*a)[0].high, true
	}
	return old, ok
}
