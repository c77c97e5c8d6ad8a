package sqlsource

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// kind is a kind of table, as a simulation makes its rows.
type kind struct {
	name   string
	insert func(*rand.Rand) []any
	update func(*rand.Rand, []any) // in ordinary life
	number int                     // it also has so many order numbers, which are made of the key
}

var simulatedKinds = []kind{
	{"unique", func(r *rand.Rand) []any { return []any{r.Int(), r.Int(), r.IntN(3)} }, func(r *rand.Rand, row []any) { row[2] = r.IntN(3) }, 0},
	{"name, status", func(r *rand.Rand) []any { return []any{r.Int(), r.IntN(3)} }, func(r *rand.Rand, row []any) { row[1] = r.IntN(3) }, 0},
	{"email, status, type, time", func(r *rand.Rand) []any { return []any{r.Int(), r.IntN(3), r.IntN(2), r.Int()} }, func(r *rand.Rand, row []any) { row[1] = r.IntN(3) }, 0},
	{"job", func(r *rand.Rand) []any { return []any{"mail", r.Int(), "pending", nil, nil, r.Int()} }, func(r *rand.Rand, row []any) { row[2], row[3], row[4], row[5] = "done", r.IntN(9), r.Int(), r.Int() }, 0},
	{"state, updated", func(r *rand.Rand) []any { return []any{"pending", r.Int()} }, func(r *rand.Rand, row []any) { row[0], row[1] = "done", r.Int() }, 0},
	{"rating, flag", func(r *rand.Rand) []any { return []any{r.IntN(10), r.IntN(2)} }, func(r *rand.Rand, row []any) { row[0] = r.IntN(10) }, 0},
	{"status, type", func(r *rand.Rand) []any { return []any{r.IntN(3), r.IntN(2)} }, func(r *rand.Rand, row []any) { row[0] = r.IntN(3) }, 0},
	{"flags", func(r *rand.Rand) []any { return []any{r.IntN(2), r.IntN(2)} }, func(r *rand.Rand, row []any) { row[1] = r.IntN(2) }, 0},
	{"order number, email, total, time", func(r *rand.Rand) []any { return []any{r.Int(), r.Int(), r.Int()} }, func(r *rand.Rand, row []any) { row[1] = r.Int() }, 1},
	{"order number, email, status", func(r *rand.Rand) []any { return []any{r.Int(), r.IntN(3)} }, func(r *rand.Rand, row []any) { row[1] = r.IntN(3) }, 1},
	{"two order numbers, email, status", func(r *rand.Rand) []any { return []any{r.Int(), r.IntN(3)} }, func(r *rand.Rand, row []any) { row[1] = r.IntN(3) }, 2},
	{"order number, state", func(r *rand.Rand) []any { return []any{r.IntN(3)} }, func(r *rand.Rand, row []any) { row[0] = r.IntN(3) }, 1},
	{"two order numbers, state", func(r *rand.Rand) []any { return []any{r.IntN(3)} }, func(r *rand.Rand, row []any) { row[0] = r.IntN(3) }, 2},
}

// rates are what comparisons conclude, in percent.
type rates struct{ silent, proven, stopped, equal float64 }

// simulate compares n anchors, of which the newest k were replaced, or updated.
func (k kind) simulate(n, newest int, replace bool) rates {
	const runs = 1000
	random := rand.New(rand.NewPCG(uint64(n), uint64(newest)))
	var sum rates
	for range runs {
		var anchors []anchor
		now := map[string]digest{}
		for i := range n {
			values := k.insert(random)
			row := func() digest {
				row := slices.Clone(values)
				for range k.number {
					row = append(row, i)
				}
				return rowOf(row...)
			}
			anchors = append(anchors, anchor{i, row(), intKey(100 - i)})
			if i < newest && replace {
				values = k.insert(random)
			} else if i < newest {
				k.update(random, values)
			}
			now[keyText(intKey(100-i))] = row()
		}
		e, _ := compareAnchors(anchors, now, intKey(100))
		for value, is := range map[*float64]bool{&sum.silent: !e.doubtful(), &sum.proven: e.proves(), &sum.stopped: e.disproves(), &sum.equal: e.with[same] == n} {
			if is {
				*value += 100. / runs
			}
		}
	}
	return sum
}

// Replaced rows are hardly ever taken for updated ones, nor the other way round. DESIGN-histories.md
// has the rates.
func TestRates(t *testing.T) {
	t.Parallel()
	for i, k := range simulatedKinds {
		for _, n := range []int{3, 5, 6} {
			for _, newest := range []int{1, 2, n} {
				name := fmt.Sprintf("%s: the newest %d of %d", k.name, newest, n)
				replaced, updated := k.simulate(n, newest, true), k.simulate(n, newest, false)
				t.Logf("%-44s replaced: %5.1f %% unnoticed, %5.1f %% proven, %5.1f %% refused; updated: %5.1f %% refused", name, replaced.silent, replaced.proven, replaced.stopped, updated.stopped)
				if k.number > 0 { // it is kept whatever happened, and proves nothing if another value changed
					require.True(t, strings.HasSuffix(k.name, "state") || replaced.proven < 0.5, "%s: %v", name, replaced)
					require.True(t, k.number > 1 || replaced.proven <= replaced.equal, "%s: %v", name, replaced)
					require.True(t, !strings.HasSuffix(k.name, "time") || newest == 1 || replaced.silent < 0.5, "%s: %v", name, replaced)
					require.Zero(t, updated.stopped, name)
					continue
				}
				if tells := i < 5; n > 3 && tells {
					require.Less(t, max(replaced.silent, replaced.proven), 0.5, name)
				}
				if newest == n {
					require.Less(t, replaced.silent, 1.5, name)
				}
				if newest < 3 {
					require.Zero(t, updated.stopped, name)
				}
				if n > 3 {
					require.Less(t, replaced.proven, 3., name)
				}
			}
		}
	}
}
