package mysql

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// The holes are those that a loop over all numbers finds.
func TestNumbersHoles(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		base := r.Int64N(200)
		low := base + 1 + r.Int64N(100)
		high := low + r.Int64N(300)
		words := map[int64]uint64{}
		have := map[int64]bool{}
		for k := low; k <= high; k++ {
			if r.IntN(3) > 0 || seed%5 == 0 {
				have[k] = true
				words[k>>6] |= 1 << (k & 63)
			}
		}
		var want []span
		for k := base + 1; k <= high; k++ {
			switch {
			case have[k]:
			case len(want) > 0 && want[len(want)-1].last == k-1:
				want[len(want)-1].last = k
			default:
				want = append(want, span{k, k})
			}
		}
		got := missing(words, base, low, high)
		require.Equal(t, want, got, "seed %d", seed)

		cut := base + r.Int64N(high-base+1)
		first := beyond(got, cut)
		for k := cut + 1; k <= high; k++ {
			if !have[k] {
				require.Equal(t, k, first, "seed %d", seed)
				break
			}
			require.NotEqual(t, k, first, "seed %d", seed)
		}
		all := map[int64]bool{}
		for _, s := range upTo(got, cut) {
			for k := s.first; k <= s.last; k++ {
				all[k] = true
			}
		}
		for k := base + 1; k <= high; k++ {
			require.Equal(t, !have[k] && k <= cut, all[k], "seed %d", seed)
		}
		var joined []span
		for _, c := range chunks(got, 7) {
			require.NotEmpty(t, c)
			joined = append(joined, c...)
		}
		require.Equal(t, got, joined, "seed %d", seed)
	}
}

func TestNumbersAtTheEnds(t *testing.T) {
	const most = 1<<63 - 1
	words := map[int64]uint64{(most - 2) >> 6: 1 << (uint64(most-2) & 63)}
	require.Equal(t, []span{{most - 9, most - 3}, {most - 1, most}}, missing(words, most-10, most-2, most))
	words = map[int64]uint64{0: ^uint64(0), 1: 1, 7: 1} // the last is out of bounds: a row that was added since
	require.Empty(t, missing(words, 0, 1, 64))
	require.Equal(t, "(k IN (9223372036854775806,9223372036854775807))", within("k", []span{{most - 1, most}}))
}

func TestWithin(t *testing.T) {
	require.Equal(t, "(k BETWEEN 100 AND 200 OR k IN (1,2,3,9))", within("k", []span{{1, 3}, {9, 9}, {100, 200}}))
	require.Equal(t, "(k IN (5))", within("k", []span{{5, 5}}))
	require.Equal(t, "(k BETWEEN 1 AND 65)", within("k", []span{{1, 65}}))
	require.Equal(t, 63, strings.Count(within("k", []span{{1, 64}}), ","))
}

// A holder has ended only if that can be seen.
func TestKeepUnfinished(t *testing.T) {
	before := map[string]*ceiling.Holder{"1": {Session: 1}, "2/7": {Session: 2}, "3/7": {Session: 3}, "4": {Session: 4}, "5/7": {Session: 5}, "6/7": {Session: 6}, "7": {Session: 7}}
	now := map[string]*ceiling.Holder{"1": {Session: 1}, "2/8": {Session: 2}, "3": {Session: 3}, "4/9": {Session: 4}, "6/7": {Session: 6}}
	keepUnfinished(now, before, map[string]bool{"1": true, "2": false, "3": true, "4": false, "6": false})
	var names []string
	for name := range now {
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{
		"1",        // runs, as before
		"2/8",      // another statement: 2/7 has ended
		"3", "3/7", // its statement is not shown now
		"4", "4/9", // its statement was not shown then
		"6/7", // runs still; 5 and 7 are idle
	}, names)
}

func TestOldVersions(t *testing.T) {
	for version, old := range map[string]bool{
		"8.0.36": false, "8.4.1-log": false, "9.1.0": false, "5.7.44": true, "8.0.0": false,
		"10.11.19-MariaDB-0+deb12u1": false, "10.2.3-MariaDB": true, "10.2.4-MariaDB": false, "10.1.48-MariaDB": true, "11.4.2-MariaDB": false,
		"5.5.5-10.6.1-MariaDB": false, "5.5.68-MariaDB": true, "unknown": true,
	} {
		p := &table{version: version, maria: strings.Contains(version, "MariaDB")}
		require.Equal(t, old, p.tooOld() != "", version)
	}
}
