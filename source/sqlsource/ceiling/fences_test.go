package ceiling

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// list makes a list of holders. One whose id begins with a minus is an heir.
func list(ids ...string) map[string]*Holder {
	all := map[string]*Holder{}
	for _, id := range ids {
		all[id] = &Holder{Inherits: id[0] == '-'}
	}
	return all
}

// settled returns the high that Settle returns, 0 if no fence is settled.
func settled(f *Fences[int64]) int64 {
	high, _, _ := f.Settle()
	return high
}

func TestFenceWithoutHolders(t *testing.T) {
	var f Fences[int64]
	at := time.Unix(1, 0)
	_, _, ok := f.Settle()
	require.False(t, ok)
	f.Set(7, at, nil)
	high, since, ok := f.Settle()
	require.True(t, ok)
	assert.Equal(t, int64(7), high)
	assert.Equal(t, at, since)
	_, _, ok = f.Settle()
	require.False(t, ok, "it is told once")
	require.Empty(t, f.Blockers())
}

// A row waits for the holders that existed with it, and not for those that came later.
func TestFenceWaitsForItsHolders(t *testing.T) {
	var f Fences[int64]
	f.Set(1, time.Unix(1, 0), list("a", "b"))
	assert.Zero(t, settled(&f))
	f.Set(2, time.Unix(2, 0), list("b", "c"))
	assert.Zero(t, settled(&f))
	f.Set(3, time.Unix(3, 0), list("c", "d"))
	high, at, ok := f.Settle()
	require.True(t, ok)
	assert.Equal(t, int64(1), high)
	assert.Equal(t, time.Unix(1, 0), at)
	f.Set(4, time.Unix(4, 0), list("e"))
	assert.Equal(t, int64(3), settled(&f), "the newest that is settled")
	f.Set(5, time.Unix(5, 0), nil)
	assert.Equal(t, int64(5), settled(&f))
}

func TestFencesForgotten(t *testing.T) {
	var f Fences[int64]
	f.Set(1, time.Time{}, list("a"))
	f.Forget()
	require.Empty(t, f.Blockers())
	f.Set(2, time.Time{}, list("b"))
	assert.Zero(t, settled(&f))
	f.Watch(nil)
	assert.Equal(t, int64(2), settled(&f))
}

// Watch notices that holders have ended without setting a fence. Holders that it lists for the
// first time do not hold existing fences back.
func TestWatch(t *testing.T) {
	var f Fences[int64]
	f.Set(1, time.Time{}, list("a", "b"))
	f.Watch(list("b", "c"))
	assert.Zero(t, settled(&f))
	assert.Len(t, f.Blockers(), 1)
	f.Watch(list("c"))
	assert.Equal(t, int64(1), settled(&f))
	f.Set(2, time.Time{}, list("c"))
	assert.Zero(t, settled(&f), "a Holder that was watched before holds the next fence")
	f.Watch(nil)
	assert.Equal(t, int64(2), settled(&f))
}

func TestBlockers(t *testing.T) {
	var f Fences[int64]
	first := list("a", "b")
	f.Set(1, time.Time{}, first)
	f.Set(2, time.Time{}, list("b", "c"))
	require.Len(t, f.Blockers(), 1, "of the oldest fence alone")
	assert.Same(t, f.holders["b"], f.Blockers()[0])
	f.Set(3, time.Time{}, list("c"))
	assert.Equal(t, int64(1), settled(&f))
	require.Len(t, f.Blockers(), 1)
	assert.Same(t, f.holders["c"], f.Blockers()[0])
}

func TestHeirs(t *testing.T) {
	t.Run("one may be a Holder that is gone", func(t *testing.T) {
		var f Fences[int64]
		f.Set(1, time.Time{}, list("a"))
		f.Set(2, time.Time{}, list("-p"))
		assert.Zero(t, settled(&f))
		f.Watch(nil)
		assert.Equal(t, int64(2), settled(&f))
	})
	t.Run("or one whose id is used again", func(t *testing.T) {
		var f Fences[int64]
		f.Set(1, time.Time{}, list("a"))
		f.Watch(list("a", "-p"))
		f.Watch(list("-p"))
		assert.Zero(t, settled(&f))
	})
	t.Run("without a Holder there is nothing to inherit", func(t *testing.T) {
		var f Fences[int64]
		f.Set(1, time.Time{}, nil)
		f.Watch(list("-p"))
		assert.Equal(t, int64(1), settled(&f))
	})
	t.Run("a stream of them holds nothing back for ever", func(t *testing.T) {
		var f Fences[int64]
		f.Set(1, time.Time{}, list("a"))
		f.Set(2, time.Time{}, list("-p"))
		assert.Zero(t, settled(&f))
		f.Set(3, time.Time{}, list("-q"))
		assert.Equal(t, int64(2), settled(&f))
		f.Set(4, time.Time{}, list("-r"))
		assert.Equal(t, int64(3), settled(&f))
	})
}

// The memory is bounded: the fences before the newest keep their place, and the newest one waits
// for every holder that came since.
func TestMaxFences(t *testing.T) {
	var f Fences[int64]
	for i := range MaxFences {
		f.Set(int64(i+1), time.Unix(int64(i), 0), list("a"))
	}
	f.Set(1000, time.Unix(1000, 0), list("a", "b"))
	f.Set(1001, time.Unix(1001, 0), list("a", "c"))
	require.Len(t, f.waiting, MaxFences)
	assert.Zero(t, settled(&f))
	f.Watch(list("b", "c"))
	assert.Equal(t, int64(MaxFences-1), settled(&f), "all but the one that was moved")
	require.Len(t, f.waiting, 1)
	f.Set(1002, time.Unix(1002, 0), list("c", "d"))
	require.Len(t, f.waiting, 2, "there is room again")
	f.Watch(list("d"))
	high, at, _ := f.Settle()
	assert.Equal(t, int64(1001), high)
	assert.Equal(t, time.Unix(1001, 0), at, "the moment of the highest, which was read last")
}

// plain is the same with a set of holders for each fence.
type plain struct {
	waiting []plainFence
	now     map[string]*Holder
}

type plainFence struct {
	high int64
	by   map[string]bool
}

func (p *plain) listed(now map[string]*Holder) {
	heirs := map[string]bool{}
	for id, h := range now {
		if _, old := p.now[id]; h.Inherits && !old {
			heirs[id] = true
		}
	}
	for _, f := range p.waiting {
		inherits := false
		for id := range f.by {
			inherits = inherits || id[0] != '-'
		}
		for id := range f.by {
			if now[id] == nil {
				delete(f.by, id)
			}
		}
		for id := range heirs {
			if inherits {
				f.by[id] = true
			}
		}
	}
	p.now = now
}

func (p *plain) set(high int64, now map[string]*Holder) {
	p.listed(now)
	f := plainFence{high, map[string]bool{}}
	for id := range now {
		f.by[id] = true
	}
	if n := len(p.waiting); n == MaxFences {
		p.waiting = p.waiting[:n-1] // those it waited for are there still, or gone
	}
	p.waiting = append(p.waiting, f)
}

// settle settles the fences in the order in which they were set: a younger one
// has no Holder that an older one lacks, except for those that came later.
func (p *plain) settle() (high int64) {
	for len(p.waiting) > 0 && len(p.waiting[0].by) == 0 {
		high = p.waiting[0].high
		p.waiting = p.waiting[1:]
	}
	return high
}

// TestFencesAsSets compares the one number for each Holder with the sets that it
// stands for.
func TestFencesAsSets(t *testing.T) {
	most := 0
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var f Fences[int64]
		var p plain
		var there []string
		next, steps, stay, come := 0, 100, 1+rng.IntN(10), 2
		if seed%100 == 0 { // with more fences than there can be
			steps, stay, come = 3*MaxFences, 500, 50
		}
		for step := range steps {
			there = slices.DeleteFunc(there, func(string) bool { return rng.IntN(stay) == 0 })
			for rng.IntN(come) == 0 {
				next++
				there = append(there, []string{"", "-"}[rng.IntN(4)/3]+fmt.Sprint(next))
			}
			if rng.IntN(4) == 0 {
				f.Watch(list(there...))
				p.listed(list(there...))
			} else {
				f.Set(int64(step), time.Time{}, list(there...))
				p.set(int64(step), list(there...))
			}
			require.Equal(t, p.settle(), settled(&f), "seed %d, step %d", seed, step)
			require.Len(t, f.waiting, len(p.waiting), "seed %d, step %d", seed, step)
			most = max(most, len(f.waiting))
			if len(p.waiting) > 0 {
				require.Len(t, f.Blockers(), len(p.waiting[0].by), "seed %d, step %d", seed, step)
			}
		}
	}
	require.Equal(t, MaxFences, most, "there were never as many as there can be")
}
