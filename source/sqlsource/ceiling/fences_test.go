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
func list(ids ...string) map[string]*holder {
	all := map[string]*holder{}
	for _, id := range ids {
		all[id] = &holder{heir: id[0] == '-'}
	}
	return all
}

// settled returns the high that settle does, 0 if there is none.
func settled(f *fences[int64]) int64 {
	high, _, _ := f.settle()
	return high
}

func TestFenceWithoutHolders(t *testing.T) {
	var f fences[int64]
	at := time.Unix(1, 0)
	_, _, ok := f.settle()
	require.False(t, ok)
	f.set(7, at, nil)
	high, since, ok := f.settle()
	require.True(t, ok)
	assert.Equal(t, int64(7), high)
	assert.Equal(t, at, since)
	_, _, ok = f.settle()
	require.False(t, ok, "it is told once")
	require.Empty(t, f.blockers())
}

// TestFenceWaitsForItsHolders has a row wait for those that were there with it,
// and not for those that came later.
func TestFenceWaitsForItsHolders(t *testing.T) {
	var f fences[int64]
	f.set(1, time.Unix(1, 0), list("a", "b"))
	assert.Zero(t, settled(&f))
	f.set(2, time.Unix(2, 0), list("b", "c"))
	assert.Zero(t, settled(&f))
	f.set(3, time.Unix(3, 0), list("c", "d"))
	high, at, ok := f.settle()
	require.True(t, ok)
	assert.Equal(t, int64(1), high)
	assert.Equal(t, time.Unix(1, 0), at)
	f.set(4, time.Unix(4, 0), list("e"))
	assert.Equal(t, int64(3), settled(&f), "the newest that is settled")
	f.set(5, time.Unix(5, 0), nil)
	assert.Equal(t, int64(5), settled(&f))
}

func TestFencesForgotten(t *testing.T) {
	var f fences[int64]
	f.set(1, time.Time{}, list("a"))
	f.forget()
	require.Empty(t, f.blockers())
	f.set(2, time.Time{}, list("b"))
	assert.Zero(t, settled(&f))
	f.watch(nil)
	assert.Equal(t, int64(2), settled(&f))
}

// TestWatch sees holders go without setting a fence, and has those that come hold
// no fence back that is there.
func TestWatch(t *testing.T) {
	var f fences[int64]
	f.set(1, time.Time{}, list("a", "b"))
	f.watch(list("b", "c"))
	assert.Zero(t, settled(&f))
	assert.Len(t, f.blockers(), 1)
	f.watch(list("c"))
	assert.Equal(t, int64(1), settled(&f))
	f.set(2, time.Time{}, list("c"))
	assert.Zero(t, settled(&f), "a holder that was watched before holds the next fence")
	f.watch(nil)
	assert.Equal(t, int64(2), settled(&f))
}

func TestBlockers(t *testing.T) {
	var f fences[int64]
	first := list("a", "b")
	f.set(1, time.Time{}, first)
	f.set(2, time.Time{}, list("b", "c"))
	require.Len(t, f.blockers(), 1, "of the oldest fence alone")
	assert.Same(t, f.holders["b"], f.blockers()[0])
	f.set(3, time.Time{}, list("c"))
	assert.Equal(t, int64(1), settled(&f))
	require.Len(t, f.blockers(), 1)
	assert.Same(t, f.holders["c"], f.blockers()[0])
}

func TestHeirs(t *testing.T) {
	t.Run("one may be a holder that is gone", func(t *testing.T) {
		var f fences[int64]
		f.set(1, time.Time{}, list("a"))
		f.set(2, time.Time{}, list("-p"))
		assert.Zero(t, settled(&f))
		f.watch(nil)
		assert.Equal(t, int64(2), settled(&f))
	})
	t.Run("or one whose id is used again", func(t *testing.T) {
		var f fences[int64]
		f.set(1, time.Time{}, list("a"))
		f.watch(list("a", "-p"))
		f.watch(list("-p"))
		assert.Zero(t, settled(&f))
	})
	t.Run("without a holder there is nothing to inherit", func(t *testing.T) {
		var f fences[int64]
		f.set(1, time.Time{}, nil)
		f.watch(list("-p"))
		assert.Equal(t, int64(1), settled(&f))
	})
	t.Run("a stream of them holds nothing back for ever", func(t *testing.T) {
		var f fences[int64]
		f.set(1, time.Time{}, list("a"))
		f.set(2, time.Time{}, list("-p"))
		assert.Zero(t, settled(&f))
		f.set(3, time.Time{}, list("-q"))
		assert.Equal(t, int64(2), settled(&f))
		f.set(4, time.Time{}, list("-r"))
		assert.Equal(t, int64(3), settled(&f))
	})
}

// TestMaxFences has the memory bounded, the fences before the newest keep their
// place, and the newest wait for all that came since.
func TestMaxFences(t *testing.T) {
	var f fences[int64]
	for i := range maxFences {
		f.set(int64(i+1), time.Unix(int64(i), 0), list("a"))
	}
	f.set(1000, time.Unix(1000, 0), list("a", "b"))
	f.set(1001, time.Unix(1001, 0), list("a", "c"))
	require.Len(t, f.waiting, maxFences)
	assert.Zero(t, settled(&f))
	f.watch(list("b", "c"))
	assert.Equal(t, int64(maxFences-1), settled(&f), "all but the one that was moved")
	require.Len(t, f.waiting, 1)
	f.set(1002, time.Unix(1002, 0), list("c", "d"))
	require.Len(t, f.waiting, 2, "there is room again")
	f.watch(list("d"))
	high, at, _ := f.settle()
	assert.Equal(t, int64(1001), high)
	assert.Equal(t, time.Unix(1001, 0), at, "the moment of the highest, which was read last")
}

// plain is the same with a set of holders for each fence.
type plain struct {
	waiting []plainFence
	now     map[string]*holder
}

type plainFence struct {
	high int64
	by   map[string]bool
}

func (p *plain) listed(now map[string]*holder) {
	heirs := map[string]bool{}
	for id, h := range now {
		if _, old := p.now[id]; h.heir && !old {
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

func (p *plain) set(high int64, now map[string]*holder) {
	p.listed(now)
	f := plainFence{high, map[string]bool{}}
	for id := range now {
		f.by[id] = true
	}
	if n := len(p.waiting); n == maxFences {
		p.waiting = p.waiting[:n-1] // those it waited for are there still, or gone
	}
	p.waiting = append(p.waiting, f)
}

// settle settles the fences in the order in which they were set: a younger one
// has no holder that an older one lacks, except for those that came later.
func (p *plain) settle() (high int64) {
	for len(p.waiting) > 0 && len(p.waiting[0].by) == 0 {
		high = p.waiting[0].high
		p.waiting = p.waiting[1:]
	}
	return high
}

// TestFencesAsSets compares the one number for each holder with the sets that it
// stands for.
func TestFencesAsSets(t *testing.T) {
	most := 0
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var f fences[int64]
		var p plain
		var there []string
		next, steps, stay, come := 0, 100, 1+rng.IntN(10), 2
		if seed%100 == 0 { // with more fences than there can be
			steps, stay, come = 3*maxFences, 500, 50
		}
		for step := range steps {
			there = slices.DeleteFunc(there, func(string) bool { return rng.IntN(stay) == 0 })
			for rng.IntN(come) == 0 {
				next++
				there = append(there, []string{"", "-"}[rng.IntN(4)/3]+fmt.Sprint(next))
			}
			if rng.IntN(4) == 0 {
				f.watch(list(there...))
				p.listed(list(there...))
			} else {
				f.set(int64(step), time.Time{}, list(there...))
				p.set(int64(step), list(there...))
			}
			require.Equal(t, p.settle(), settled(&f), "seed %d, step %d", seed, step)
			require.Len(t, f.waiting, len(p.waiting), "seed %d, step %d", seed, step)
			most = max(most, len(f.waiting))
			if len(p.waiting) > 0 {
				require.Len(t, f.blockers(), len(p.waiting[0].by), "seed %d, step %d", seed, step)
			}
		}
	}
	require.Equal(t, maxFences, most, "there were never as many as there can be")
}
