package ceiling

import "time"

// maxFences bounds the memory of a long wait. When it is reached the newest
// fence is moved instead of setting another: those before it keep their place.
const maxFences = 256

// fences is the bookkeeping of all strategies that wait for others to end.
//
// A fence is set by reading how far the rows go, high, and then, not before,
// who might still add one at or below it: the holders. When all holders of a
// fence have gone, everything up to its high is settled. A new fence is set at
// each poll, so that a row waits for the holders that were there at the first
// poll that saw it, and for none that came later: only the newest of maxFences
// fences, and a fence that an heir inherits, may wait for more.
//
// Instead of a list for each fence there is one number for each holder: the
// first fence that it is a holder of. So a fence is settled when the smallest of
// these numbers is above its own.
type fences[H any] struct {
	last    int64 // number of the newest fence ever set
	waiting []fence[H]
	holders map[string]*holder
}

type fence[H any] struct {
	number int64
	high   H
	at     time.Time // before high was read
}

// holder is a transaction, or a statement, that may still add rows.
type holder struct {
	first    int64
	pid      int64
	who      string // for a human, where that is known at once
	prepared bool   // a prepared transaction, which has no session
	// heir says that it may be one that was listed under another id before.
	// It keeps its id from now on.
	heir bool
}

// forget drops all fences, which must be set anew.
func (f *fences[H]) forget() { f.waiting, f.holders = nil, nil }

// listed takes the list of those who are there, in which the value of first is
// of no account. A holder keeps its place as long as its id is listed.
//
// Which of the others an heir has been is not known, nor that it is one of those
// whose ids have vanished: ids are used again after a crash of the server. So it
// takes the place of the oldest of all. Heirs do not pass on what they inherited,
// since they keep their ids: otherwise a stream of them would hold a fence back
// for ever.
func (f *fences[H]) listed(now map[string]*holder, next int64) {
	inherited := next
	for _, h := range f.holders {
		if !h.heir {
			inherited = min(inherited, h.first)
		}
	}
	for id, h := range now {
		switch old, ok := f.holders[id]; {
		case ok:
			h.first = old.first
		case h.heir:
			h.first = inherited
		default:
			h.first = next
		}
	}
	f.holders = now
}

// set sets a fence at high, which was read after at, with the holders listed
// after that. A fence that is moved waits for its old holders and the new ones.
func (f *fences[H]) set(high H, at time.Time, holders map[string]*holder) {
	f.last++
	f.listed(holders, f.last)
	n := fence[H]{f.last, high, at}
	if len(f.waiting) == maxFences {
		f.waiting[maxFences-1] = n
	} else {
		f.waiting = append(f.waiting, n)
	}
}

// watch looks whether holders have gone, without setting a fence.
func (f *fences[H]) watch(holders map[string]*holder) { f.listed(holders, f.last+1) }

// settle returns the high of the newest fence that is settled, and when that was
// set, and forgets it and those before it.
func (f *fences[H]) settle() (high H, at time.Time, ok bool) {
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

// blockers returns those that hold the oldest fence back.
func (f *fences[H]) blockers() []*holder {
	if len(f.waiting) == 0 {
		return nil
	}
	var all []*holder
	for _, h := range f.holders {
		if h.first <= f.waiting[0].number {
			all = append(all, h)
		}
	}
	return all
}
