package sqlsource

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func intKey(n int) []value { return []value{{tagInt, strconv.Itoa(n)}} }

func (w *window) read(n int) keyRead {
	return keyRead{w.hash([]cell{{tagInt, []byte(strconv.Itoa(n))}}), intKey(n)}
}

func (w *window) reads(numbers ...int) (all []keyRead) {
	for _, n := range numbers {
		all = append(all, w.read(n))
	}
	return all
}

func (w *window) hand(now int64, room int, numbers ...int) {
	var hashes []uint64
	for _, n := range numbers {
		hashes = append(hashes, w.read(n).hash)
	}
	w.add(hashes, intKey(numbers[len(numbers)-1]), time.Unix(0, now), room)
}

// walk looks at all blocks, chunk keys at a time, of a table with the keys given.
func (w *window) walk(table []int, chunk int, now int64) (late []int) {
	for w.next = 0; w.next < len(w.blocks); {
		after, to := w.bounds()
		low, high := -1<<62, numberOf(to)
		if after != nil {
			low = numberOf(after)
		}
		var read []keyRead
		for _, n := range table {
			if n > low && n <= high && len(read) < chunk {
				read = append(read, w.read(n))
			}
		}
		for _, k := range w.looked(read, len(read) < chunk, time.Unix(0, now)) {
			late = append(late, numberOf(k.values))
		}
	}
	w.next = 0
	return late
}

func numberOf(key []value) int {
	n, err := strconv.Atoi(key[0].text)
	if err != nil {
		panic(err)
	}
	return n
}

func TestWindowLate(t *testing.T) {
	t.Parallel()
	w := newWindow(nil)
	w.hand(100, 4, 10, 20, 30)
	w.hand(200, 4, 40, 50)
	w.hand(300, 4, 60)
	require.Len(t, w.blocks, 2)
	require.Empty(t, w.walk([]int{10, 20, 30, 40, 50, 60, 70}, 100, 400))
	require.Empty(t, w.walk([]int{20, 60}, 100, 400), "deletes are no alarm")

	late := func(chunk int, keys ...int) (all []lateKey) {
		read := w.reads(keys...)
		return w.looked(read, len(read) < chunk, time.Unix(0, 500))
	}
	got := late(100, 5, 10, 20, 25, 30)
	require.Len(t, got, 2)
	require.Equal(t, intKey(5), got[0].values)
	require.Equal(t, lateKey{w.read(5), 100, 6}, got[0])
	require.Equal(t, lateKey{w.read(25), 100, 4}, got[1])
	got = late(100, 40, 50, 55, 60)
	require.Equal(t, []lateKey{{w.read(55), 300, 1}}, got)
	require.Equal(t, 2, w.next)
	w.next = 0
	require.Empty(t, w.walk([]int{5, 10, 20, 25, 30, 40, 55, 60}, 100, 600), "each is found once")
}

// Against a model: every key that appears at or below the last one handed out, and
// above the window's beginning, is found, once, and no other, whatever is cut,
// trimmed and deleted meanwhile. What was deleted does not come back: where its key
// was is not known for sure.
func TestWindowModel(t *testing.T) {
	t.Parallel()
	seeds := 3000
	first := rand.Uint64()
	if s := os.Getenv("WINDOW_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		first, seeds = n, 1
	}
	for i := range seeds {
		seed := first + uint64(i)
		if err := windowModel(rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatalf("%v; again with WINDOW_SEED=%d go test -run TestWindowModel ./source/sqlsource", err, seed)
		}
	}
}

// Seeds that have found a fault.
func TestWindowModelAgain(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{13515894359807987255, 17479425905227013136, 5922293455757121382} {
		require.NoError(t, windowModel(rand.New(rand.NewPCG(seed, 0))), "seed %d", seed)
	}
}

func windowModel(r *rand.Rand) error {
	table := map[int]bool{}
	known, dead := map[int]bool{}, map[int]bool{}
	sorted := func(m map[int]bool, low, high int) (keys []int) {
		for k := range m {
			if k > low && k <= high {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		return keys
	}
	const top = 1000
	for range 30 {
		table[r.IntN(top)] = true
	}
	w := newWindow(intKey(100))
	low, cursor := 100, 100
	room, chunk := 1+r.IntN(8), 1+r.IntN(6)
	var end int64 = 1
	if r.IntN(2) == 0 { // a base line
		old := sorted(table, -1, cursor)
		slices.Reverse(old)
		if len(old) > 2 {
			w.prepend(w.reads(old[:2]...), intKey(old[2]), time.Unix(0, 0))
			known[old[0]], known[old[1]], low = true, true, old[2]
		}
	}
	for step := range 80 {
		end++
		switch r.IntN(6) {
		case 0: // rows come, anywhere
			for range r.IntN(8) {
				if k := r.IntN(top); !dead[k] {
					table[k] = true
				}
			}
		case 1: // and go
			for _, k := range sorted(table, -1, top) { // in order, or the seed would not repeat it
				if r.IntN(10) == 0 {
					delete(table, k)
					dead[k] = true
				}
			}
		case 2: // a batch
			rows := sorted(table, cursor, top)
			if n := min(len(rows), 1+r.IntN(6)); n > 0 {
				w.hand(end, room, rows[:n]...)
				for _, k := range rows[:n] {
					known[k] = true
				}
				cursor = rows[n-1]
			}
		case 3: // back to a cursor of before
			if handed := sorted(known, low, cursor); len(handed) > 0 {
				to := handed[r.IntN(len(handed))]
				if _, ok := w.cut(intKey(to)); !ok {
					if dead[to] {
						continue
					}
					return fmt.Errorf("step %d: %d is not known", step, to)
				}
				for k := range known {
					if k > to {
						delete(known, k)
					}
				}
				cursor = to
			}
		case 4:
			w.trim(10+r.IntN(20), -1<<62)
			low = numberOf(w.from)
		case 5:
			var want []int
			for _, k := range sorted(table, low, cursor) {
				if !known[k] {
					want = append(want, k)
					known[k] = true
				}
			}
			if got := w.walk(sorted(table, -1, top), chunk, end); !slices.Equal(got, want) {
				return fmt.Errorf("step %d: late are %v, want %v", step, got, want)
			}
		}
		size := 0
		for _, b := range w.blocks {
			size += len(b.keys)
		}
		if size != w.size || numberOf(w.end()) != cursor {
			return fmt.Errorf("step %d: the size is %d, want %d; the end %d, want %d", step, w.size, size, numberOf(w.end()), cursor)
		}
	}
	return nil
}
