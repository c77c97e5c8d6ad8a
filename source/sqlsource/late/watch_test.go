package late

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
)

// numbers is a table whose keys are numbers, each its own cursor.
type numbers struct {
	mu   sync.Mutex
	keys []int // in order
	fail error
}

func (n *numbers) add(keys ...int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range keys {
		if i, found := slices.BinarySearch(n.keys, k); !found {
			n.keys = slices.Insert(n.keys, i, k)
		}
	}
}

func (n *numbers) Keys(ctx context.Context, after, to source.Cursor, limit int) (all []source.Cursor, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := cmp.Or(n.fail, ctx.Err()); err != nil {
		return nil, err
	}
	low, high := -1, 1<<62
	if after != "" {
		if low, err = strconv.Atoi(string(after)); err != nil {
			return nil, err
		}
	}
	if to != "" {
		if high, err = strconv.Atoi(string(to)); err != nil {
			return nil, err
		}
	}
	i, _ := slices.BinarySearch(n.keys, low+1)
	for ; i < len(n.keys) && n.keys[i] <= high && len(all) < limit; i++ {
		all = append(all, cursor(n.keys[i]))
	}
	return all, nil
}

func (n *numbers) Adopt(c source.Cursor) (source.Cursor, error) { return c, nil }
func (n *numbers) Position(c source.Cursor) string              { return "id " + string(c) }

func (n *numbers) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
	b := source.Batch[int]{From: after, To: after}
	keys, err := n.Keys(ctx, after, "", limit)
	for _, k := range keys {
		i, _ := strconv.Atoi(string(k))
		b.Records, b.To = append(b.Records, i), k
	}
	return b, err
}

func cursor(n int) source.Cursor { return source.Cursor(fmt.Sprint(n)) }

// Whatever is added, deleted and read again, every late row is reported once, in
// order, and no other row is; and no more keys are remembered than was asked for.
func TestWatchAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		table := &numbers{}
		const rows = 1 << 20
		w := newWatch[int](table, rows)
		passed := map[int]bool{} // keys that are known to the reader, or reported
		at, next := source.Cursor(""), 0
		for range 60 {
			switch rng.IntN(6) {
			case 0, 1: // rows above the cursor
				for range rng.IntN(3000) {
					next += 1 + rng.IntN(5)
					table.keys = append(table.keys, next)
				}
			case 2: // rows anywhere
				for range rng.IntN(20) {
					if k := rng.IntN(next + 1); !passed[k] {
						table.add(k)
					}
				}
			case 3: // deleted, and not added again
				if n := len(table.keys); n > 0 {
					i := rng.IntN(n)
					passed[table.keys[i]] = true
					table.keys = slices.Delete(table.keys, i, i+1)
				}
			case 4: // the reader goes on
				b, err := table.Fetch(t.Context(), at, 1+rng.IntN(5000))
				require.NoError(t, err)
				unnamed, err := w.passed(t.Context(), at, b.To, len(b.Records))
				require.NoError(t, err)
				require.Zero(t, unnamed)
				for _, k := range b.Records {
					passed[k] = true
				}
				at = b.To
			case 5:
				want := []source.Cursor(nil)
				end := -1
				if at != "" {
					end, _ = strconv.Atoi(string(at))
				}
				for _, k := range table.keys {
					if k <= end && !passed[k] {
						want = append(want, cursor(k))
						passed[k] = true
					}
				}
				var got []source.Cursor
				for done := false; !done; {
					late, whole, err := w.check(t.Context(), 1+rng.IntN(3000))
					require.NoError(t, err)
					got, done = append(got, late...), whole
				}
				require.Equal(t, want, got, "seed %d", seed)
			}
		}
	}
}

// The oldest keys are forgotten, and counted if they were not checked.
func TestWatchIsBounded(t *testing.T) {
	t.Parallel()
	table := &numbers{}
	w := newWatch[int](table, 5000)
	at := source.Cursor("")
	for i := range 100 {
		for j := range 500 {
			table.keys = append(table.keys, 1000*i+2*j)
		}
		b, err := table.Fetch(t.Context(), at, 1000)
		require.NoError(t, err)
		_, err = w.passed(t.Context(), at, b.To, len(b.Records))
		require.NoError(t, err)
		at = b.To
		require.LessOrEqual(t, w.size(), 5000)
	}
	require.Equal(t, 45_000, w.unchecked)
	table.add(1, 97_001)
	late, done, err := w.check(t.Context(), 1<<30)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, []source.Cursor{"97001"}, late, "what appeared below the window is not seen")

	// A flood of late rows does not grow the memory either.
	for i := 90_000; i < 99_900; i++ {
		table.add(i)
	}
	late, _, err = w.check(t.Context(), 1<<30)
	require.NoError(t, err)
	require.Greater(t, len(late), 3000)
	require.LessOrEqual(t, w.size(), 5000)
}

// A batch that is asked for again is passed again, from any of its rows.
func TestWatchGoesBack(t *testing.T) {
	t.Parallel()
	table := &numbers{keys: []int{10, 20, 30, 40, 50}}
	w := newWatch[int](table, 100)
	pass := func(from source.Cursor, limit int) source.Cursor {
		b, err := table.Fetch(t.Context(), from, limit)
		require.NoError(t, err)
		_, err = w.passed(t.Context(), from, b.To, len(b.Records))
		require.NoError(t, err)
		return b.To
	}
	pass(pass("", 3), 2)
	table.add(45)
	pass("40", 5) // 45 is read with the batch
	late, _, err := w.check(t.Context(), 100)
	require.NoError(t, err)
	require.Empty(t, late)
	require.Equal(t, 6, w.size())
	pass("7", 5) // a rewind to anywhere else forgets all keys
	require.Equal(t, source.Cursor("7"), w.from)
	require.Equal(t, 5, w.size())

	// A row that appears between the batch and its keys is counted.
	table.add(60)
	unnamed, err := w.passed(t.Context(), "45", "60", 1)
	require.NoError(t, err)
	require.Equal(t, 1, unnamed, "50 and 60")
}
