package ceiling

import (
	"cmp"
	"slices"
	"time"
)

// MaxFences bounds the memory of a long wait. Once there are that many fences, the
// newest one is moved instead of setting another; those before it keep their place.
const MaxFences = 256

// Fences is the bookkeeping of a strategy that waits for transactions or statements
// to end. The zero value is ready for use. It is not safe for concurrent use.
//
// A fence is set in two steps, in this order: read how far the rows go, then list the
// holders: everyone who might still add a row at or below that. Once all holders
// of a fence have ended, everything up to its high is settled. A new fence is set at
// each poll, so that a row waits for the holders that existed at the first poll that
// saw it, and not for those that came later. Only the newest of MaxFences fences, and a
// fence with an inherited holder, may wait for more.
type Fences[H any] struct {
	// Instead of a list for each fence there is one number for each holder: the first
	// fence that it holds back. A fence is settled when the smallest of these numbers
	// is above its own.
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

	// Inherits says that it may be a holder that was listed under another id before.
	// From now on it keeps its id.
	Inherits bool

	first int64 // the first fence that it holds back
}

// Forget drops all fences. They must be set again.
func (f *Fences[H]) Forget() { f.waiting, f.holders = nil, nil }

// Set sets a fence at high with the holders that were listed after high was read. At is
// a moment before high was read. The key of holders identifies a holder as long as it
// exists. A fence that is moved waits for its old holders and for the new ones.
func (f *Fences[H]) Set(high H, at time.Time, holders map[string]*Holder) {
	f.last++
	f.update(holders, f.last)
	n := fence[H]{f.last, high, at}
	if len(f.waiting) == MaxFences {
		f.waiting[MaxFences-1] = n
	} else {
		f.waiting = append(f.waiting, n)
	}
}

// Watch records which holders still exist, without setting a fence.
func (f *Fences[H]) Watch(holders map[string]*Holder) { f.update(holders, f.last+1) }

// update records the current holders. A holder keeps its place as long as its id is
// listed; the others get the place next.
//
// Nobody knows which holder an inheriting one was before, nor whether it is one whose id
// has vanished, because ids are used again after a crash of the server. So it takes the
// place of the oldest holder of all. Inheriting holders keep their ids, so they do not
// pass on what they inherited: otherwise a stream of them would hold a fence back for ever.
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
	for n < len(f.waiting) && f.waiting[n].number < oldest {
		n++
	}
	if n == 0 {
		return high, at, false
	}
	s := f.waiting[n-1]
	f.waiting = append(f.waiting[:0], f.waiting[n:]...)
	return s.high, s.at, true
}

// Oldest returns when the oldest waiting fence was set. ok is false if none waits.
func (f *Fences[H]) Oldest() (at time.Time, ok bool) {
	if len(f.waiting) == 0 {
		return at, false
	}
	return f.waiting[0].at, true
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
