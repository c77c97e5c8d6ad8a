package sqlsource

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func intKey(n int) []dialect.Value { return []dialect.Value{{Tag: dialect.Int, Text: fmt.Sprint(n)}} }

// digest is the digest of a row with three columns: each differs from row to row, unless it is fixed.
func digest(values ...any) (s slots) {
	for i, v := range values {
		s.add(fmt.Sprintf("column %d", i), fmt.Sprint(v), v == nil)
	}
	return s
}

// There is one anchor for each power of eight of the distance, and the newest row always has one. As
// soon as so many rows were delivered, there are enough for a proof, whatever the batches.
func TestAnchorsThin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var anchors []anchor
		last := 0
		for range 200 {
			rows := 1 + random.IntN(1<<random.IntN(12))
			var batch []anchor
			for n := rows; n > 0; n-- {
				if n == rows || n&(n-1) == 0 || n%anchorEvery == 0 {
					batch = append(batch, anchor{rows - n, slots{}, intKey(last + n)})
				}
			}
			last += rows
			anchors = moveAnchors(anchors, batch, rows)
			require.Equal(t, intKey(last), anchors[0].key)
			require.LessOrEqual(t, len(anchors), levels)
			for i, a := range anchors {
				if a.back < maxBack {
					require.Equal(t, intKey(last-a.back), a.key, "its distance is true")
				}
				require.True(t, i == 0 || anchors[i-1].level() < a.level() || len(anchors) == enough && anchors[i-1].back < a.back)
			}
			require.GreaterOrEqual(t, len(anchors), min(last, enough))
		}
		require.Greater(t, len(anchors), 3, "of %d rows", last)
	}
}

func TestCompareAnchors(t *testing.T) {
	t.Parallel()
	const n = 5
	old := func(i int) slots { return digest(fmt.Sprint("name ", i), i*i, "state") }
	for name, c := range map[string]struct {
		now               func(i int) (slots, bool) // the row of anchor i; the newest is 0
		proves, disproved bool
	}{
		"the same":           {func(i int) (slots, bool) { return old(i), true }, true, false},
		"all gone":           {func(i int) (slots, bool) { return slots{}, false }, false, false},
		"pruned":             {func(i int) (slots, bool) { return old(i), i < 3 }, true, false},
		"the newest is gone": {func(i int) (slots, bool) { return old(i), i > 0 }, false, false},
		"two are left":       {func(i int) (slots, bool) { return old(i), i < 2 }, false, false},
		"the state updated":  {func(i int) (slots, bool) { return digest(fmt.Sprint("name ", i), i*i, "done"), true }, true, false},
		"a column updated":   {func(i int) (slots, bool) { return digest(fmt.Sprint("name ", i), -i, "done"), true }, true, false},
		"replaced":           {func(i int) (slots, bool) { return digest(fmt.Sprint("other ", i), -1-i, "state"), true }, false, true},
		"an older backup": {func(i int) (slots, bool) {
			return map[bool]slots{true: old(i), false: digest("other", -1-i, "state")}[i > 1], true
		}, false, true},
		"one row replaced": {func(i int) (slots, bool) {
			return map[bool]slots{true: old(i), false: digest("other", -1-i, "state")}[i > 0], true
		}, false, true},
		"the newest is gone, the next replaced": {func(i int) (slots, bool) {
			return map[bool]slots{true: old(i), false: digest("other", -1-i, "state")}[i > 1], i > 0
		}, false, true},
		"an older row replaced": {func(i int) (slots, bool) {
			return map[bool]slots{true: old(i), false: digest("other", -1-i, "state")}[i != 3], true
		}, false, false},
	} {
		var anchors []anchor
		now := map[string]slots{}
		for i := range n {
			a := anchor{i * i, old(i), intKey(100 - i)}
			anchors = append(anchors, a)
			if row, ok := c.now(i); ok {
				now[keyText(a.key)] = row
			}
		}
		e, next, _ := compareAnchors(anchors, now, 0, intKey(100))
		require.Equal(t, c.proves, e.proves(), "%s: %v", name, e)
		require.Equal(t, c.disproved, e.disproves(), "%s: %v", name, e)
		require.Len(t, next, n)
		other, _, _ := compareAnchors(anchors, now, 0, intKey(101))
		require.False(t, other.proves(), "%s: the cursor is after another row", name)
		ignored, _, _ := compareAnchors(anchors, now, 0xff, intKey(100))
		require.False(t, ignored.proves() || ignored.disproves(), "%s: nothing is known of columns that change", name)
		moved, _, _ := compareAnchors(forget(anchors, layout{}, layout{1, 1, 1, 1, 1, 1, 1, 1}), now, 0, intKey(100))
		require.False(t, moved.proves() || moved.disproves(), "%s: nothing is known of other columns", name)
	}
}

// A value that many rows share proves nothing.
func TestCompareAnchorsThatAreAlike(t *testing.T) {
	t.Parallel()
	var anchors []anchor
	now := map[string]slots{}
	for i := range 5 {
		a := anchor{i * i, digest("v", i%2), intKey(100 - i)}
		anchors = append(anchors, a)
		now[keyText(a.key)] = a.row
	}
	e, _, _ := compareAnchors(anchors, now, 0, intKey(100))
	require.False(t, e.proves())
	require.False(t, e.disproves())
	require.Equal(t, 5, e.count(same))
}

// Columns that were seen to change do not tell rows apart afterwards.
func TestCompareAnchorsLearns(t *testing.T) {
	t.Parallel()
	var anchors []anchor
	updated := map[string]slots{}
	for i := range 4 {
		a := anchor{i * i, digest(i), intKey(100 - i)}
		anchors = append(anchors, a)
		updated[keyText(a.key)] = digest(100 + i)
	}
	e, next, changing := compareAnchors(anchors, updated, 0, intKey(100))
	require.True(t, e.disproves(), "if a mark changed, too")
	e, _, _ = compareAnchors(next, map[string]slots{keyText(intKey(100)): digest("again")}, changing, intKey(100))
	require.False(t, e.disproves())
}

func TestHistoryFollows(t *testing.T) {
	t.Parallel()
	h := dialect.History{Parts: []dialect.HistoryPart{{Name: "cluster", Value: "1"}, {Name: "timeline"}}, Mark: 10}
	made := originOf(h, origin{}, "abcd")
	require.NoError(t, made.follows(h))
	h.Mark = 9
	require.ErrorContains(t, made.follows(h), "gone back in time")
	h.Drawn = 10
	require.NoError(t, made.follows(h))
	h.Parts[0].Value = "2"
	require.ErrorContains(t, made.follows(h), "was made on the cluster 1, this is the cluster 2")
	h.Parts[0].Value = ""
	require.NoError(t, made.follows(h), "not known")
}

// A refusal survives in the cursor, whatever its text, and a release that does not know it
// refuses the cursor for its version.
func TestCursorRefused(t *testing.T) {
	t.Parallel()
	print := fingerprint("t")
	for _, reason := range []string{"why", "größer; 100%\n", strings.Repeat("x", maxReason)} {
		o := origin{values: []string{"1", ""}, mark: 7, table: "abcd", refused: reason}
		c, err := encode(print, o, intKey(42))
		require.NoError(t, err)
		require.NoError(t, c.Validate())
		require.True(t, strings.HasPrefix(string(c), "3;"))
		key, made, err := decode(c, print, 1)
		require.NoError(t, err)
		require.Equal(t, intKey(42), key)
		require.Equal(t, o, made)
	}
}
