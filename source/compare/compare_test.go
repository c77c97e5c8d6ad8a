package compare_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/compare"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// stream returns entries from texts such as "7" or "7=new", in this order.
func stream(texts ...string) iter.Seq2[compare.Entry, error] {
	return func(yield func(compare.Entry, error) bool) {
		for _, text := range texts {
			if text == "part" {
				yield(compare.Entry{}, compare.ErrPart)
				return
			}
			key, _, _ := strings.Cut(text, "=")
			if !yield(compare.Entry{Key: key, Digest: compare.Digest([]byte(text))}, nil) {
				return
			}
		}
	}
}

func numbers(from, to int) (texts []string) {
	for i := from; i <= to; i++ {
		texts = append(texts, strconv.Itoa(i))
	}
	return texts
}

// numerically is the order of keys that are numbers.
func numerically(a, b string) (int, error) {
	x, err := strconv.Atoi(a)
	if err != nil {
		return 0, err
	}
	y, err := strconv.Atoi(b)
	return x - y, err
}

// without returns the texts except some.
func without(texts []string, some ...string) []string {
	return slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return slices.Contains(some, s) })
}

func TestStreams(t *testing.T) {
	t.Parallel()
	all := numbers(1, 1000)
	for name, c := range map[string]struct {
		want, got               []string
		missing, extra, changed []string
	}{
		"equal":                      {want: all, got: all},
		"both empty":                 {},
		"all missing":                {want: numbers(1, 3), missing: numbers(1, 3)},
		"all extra":                  {got: numbers(1, 3), extra: numbers(1, 3)},
		"nothing in common":          {want: numbers(1, 3), got: numbers(4, 6), missing: numbers(1, 3), extra: numbers(4, 6)},
		"one missing":                {want: all, got: without(all, "500"), missing: []string{"500"}},
		"the first and last missing": {want: all, got: all[1:999], missing: []string{"1", "1000"}},
		"one extra":                  {want: without(all, "500"), got: all, extra: []string{"500"}},
		"one changed":                {want: all, got: slices.Concat(all[:99], []string{"100=x"}, all[100:]), changed: []string{"100"}},
		"a damaged key":              {want: all, got: slices.Concat(all[:99], []string{"999999"}, all[100:]), missing: []string{"100"}, extra: []string{"999999"}},
		"a key that became another":  {want: all, got: slices.Concat(all[:99], []string{"101=x"}, all[100:]), missing: []string{"100"}, extra: []string{"101"}, changed: []string{"101"}},
		"delivered twice":            {want: all, got: slices.Concat(all[:100], all[94:]), extra: numbers(95, 100)},
		"a run longer than the window is missing":            {want: all, got: slices.Concat(all[:100], all[900:]), missing: numbers(101, 900)},
		"a run longer than the window is extra":              {want: slices.Concat(all[:100], all[900:]), got: all, extra: numbers(101, 900)},
		"both":                                               {want: slices.Concat(all[:100], all[500:]), got: slices.Concat(all[:500], all[900:]), missing: numbers(501, 900), extra: numbers(101, 500)},
		"the end is another part":                            {want: all, got: append(without(all[:500], "7"), "part"), missing: []string{"7"}},
		"the end is another part, and the last one is extra": {want: all, got: append(all[:500:500], "2000", "part"), extra: []string{"2000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var missing, extra, changed, equal []string
			for p, err := range compare.Align(stream(c.want...), stream(c.got...), compare.Options{Order: numerically, Window: 16}) {
				require.NoError(t, err)
				into := map[compare.Kind]*[]string{compare.Missing: &missing, compare.Extra: &extra, compare.Changed: &changed, compare.Equal: &equal}[p.Kind]
				*into = append(*into, p.Key())
			}
			assert.Equal(t, c.missing, missing)
			assert.Equal(t, c.extra, extra)
			assert.Equal(t, c.changed, changed)
			if !slices.Contains(c.got, "part") {
				assert.Len(t, c.want, len(equal)+len(changed)+len(missing))
			}
			assert.Len(t, without(c.got, "part"), len(equal)+len(changed)+len(extra))

			r, err := compare.Streams(stream(c.want...), stream(c.got...), compare.Options{Order: numerically, Window: 16})
			require.NoError(t, err)
			assert.Equal(t, []int{len(missing), len(extra), len(changed)}, []int{int(r.Missing.Records), int(r.Extra.Records), int(r.Changed.Records)})
			assert.Equal(t, len(missing)+len(extra)+len(changed) == 0, r.Equal())
			inTable, inFiles := r.Want(), r.Got()
			assert.Equal(t, int64(len(equal)+len(changed)+len(missing)), inTable)
			assert.Equal(t, int64(len(equal)+len(changed)+len(extra)), inFiles)
			assert.LessOrEqual(t, len(r.Ranges), 32)
		})
	}
}

// Random streams, compared with a comparison by sets.
func TestStreamsAtRandom(t *testing.T) {
	t.Parallel()
	seeds := uint64(2000)
	if testing.Short() {
		seeds = 200
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 0))
		var want, got, expected []string
		hole := func() bool { return random.IntN(3) == 0 }
		for i := range 100 {
			key := strconv.Itoa(i)
			w, g := true, true
			switch random.IntN(6) {
			case 0:
				w, g = hole(), true
			case 1:
				w, g = true, hole()
			case 2:
				w, g = hole(), hole()
			}
			if i/20 == int(seed%7) { // a long run that only one has
				w, g = seed%2 == 0, seed%2 == 1
			}
			content := key
			if random.IntN(10) == 0 {
				content += "=new"
			}
			if w {
				want = append(want, key)
			}
			if g {
				got = append(got, content)
			}
			switch {
			case w && !g:
				expected = append(expected, "missing "+key)
			case g && !w:
				expected = append(expected, "extra "+key)
			case g && w && content != key:
				expected = append(expected, "changed "+key)
			}
		}
		var found []string
		for p, err := range compare.Align(stream(want...), stream(got...), compare.Options{Order: numerically, Window: 1 + random.IntN(30)}) {
			require.NoError(t, err, seed)
			if p.Kind != compare.Equal {
				found = append(found, fmt.Sprintf("%v %s", p.Kind, p.Key()))
			}
		}
		require.ElementsMatch(t, expected, found, "seed %d", seed)
	}
}

func TestWithoutAnOrder(t *testing.T) {
	t.Parallel()
	all := numbers(1, 100)
	r, err := compare.Streams(stream(all...), stream(without(all, "50")...), compare.Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"50"}, r.Missing.First)
	_, err = compare.Streams(stream(all...), stream(slices.Concat(all[:10], all[90:])...), compare.Options{Window: 8})
	require.ErrorContains(t, err, `no key is in both streams for 8 records after "11" and "91": set Options.Order`)
}

func TestErrorsEndTheComparison(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	failing := func(yield func(compare.Entry, error) bool) {
		for e, err := range stream("1", "2") {
			if !yield(e, err) {
				return
			}
		}
		yield(compare.Entry{}, broken)
	}
	for _, c := range [][2]iter.Seq2[compare.Entry, error]{{failing, stream(numbers(1, 5)...)}, {stream(numbers(1, 5)...), failing}, {stream("0", "1", "2"), failing}, {failing, stream("7", "8", "9")}} {
		_, err := compare.Streams(c[0], c[1], compare.Options{})
		require.ErrorIs(t, err, broken)
	}
	_, err := compare.Streams(stream(numbers(1, 50)...), stream(numbers(51, 90)...), compare.Options{Window: 4,
		Order: func(string, string) (int, error) { return 0, broken }})
	require.ErrorIs(t, err, broken)
}

// A flipped bit anywhere in a record changes its digest.
func TestDigest(t *testing.T) {
	t.Parallel()
	record := []byte(`{"id":1,"name":"order 1"}` + "\n")
	sum := compare.Digest(record)
	for i := range record {
		for bit := range 8 {
			record[i] ^= 1 << bit
			require.NotEqual(t, sum, compare.Digest(record))
			record[i] ^= 1 << bit
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	entry := func(n *int) (compare.Entry, error) { return compare.Entry{Key: strconv.Itoa(*n)}, nil }
	src := &sourcetest.Fake[int]{}
	for i := range 12_000 {
		src.Append(i)
	}
	n := 0
	for e, err := range compare.Source(t.Context(), src, "", entry) {
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(n), e.Key)
		n++
	}
	require.Equal(t, 12_000, n)

	// A record that cannot be made has its key for people, and records that are held back are waited for.
	calls := 0
	steps := source.Func[int](func(_ context.Context, after source.Cursor, _ int) (b source.Batch[int], err error) {
		calls++
		switch calls {
		case 1:
			return b, &source.BadRecord{Key: "id 1", To: "1", Err: errors.New("no")}
		case 2:
			return source.Batch[int]{From: after, To: after, Held: &source.Held{Retry: 1}}, nil
		case 3:
			return source.Batch[int]{From: after, To: "2", Records: []int{2}}, nil
		}
		return b, source.ErrEnd
	})
	var keys []string
	for e, err := range compare.Source(t.Context(), steps, "", entry) {
		require.NoError(t, err)
		keys = append(keys, e.Key)
	}
	require.Equal(t, []string{"id 1", "2"}, keys)
}

func ExampleStreams() {
	table := stream("1", "2", "3", "4", "5")
	files := stream("1", "3=old", "4", "9")
	report, err := compare.Streams(table, files, compare.Options{})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(report.Equal(), report.Missing.Records, report.Missing.First, report.Extra.First, report.Changed.First)
	// Output: false 2 [2 5] [9] [3]
}

func TestReportText(t *testing.T) {
	t.Parallel()
	all := numbers(1, 100)
	r, err := compare.Streams(stream(all...), stream(append(without(all, numbers(20, 40)...), "101\nx")...), compare.Options{})
	require.NoError(t, err)
	text := r.String()
	assert.Regexp(t, `(?m)^keys +want +got +digests +missing +extra +changed$`, text)
	assert.Regexp(t, `(?m)^1 to 16 +16 +16 +[0-9a-f]{16} +0 +0 +0$`, text)
	assert.Regexp(t, `(?m)^17 to 20 +4 +3 +[0-9a-f]{16}, [0-9a-f]{16} +1 +0 +0$`, text)
	assert.Contains(t, text, "missing: 21: 20 21 22 23 24 25 26 27 28 29 ...\nextra: 1: 101 x\n")
}
