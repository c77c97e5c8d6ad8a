package sqlsource

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func intKey(n int) []dialect.Value { return []dialect.Value{{Tag: dialect.Int, Text: fmt.Sprint(n)}} }

// rowOf is the digest of a row with these values.
func rowOf(values ...any) (d digest) {
	var columns []dialect.Column
	for i := range values {
		columns = append(columns, dialect.Column{Name: fmt.Sprint("column ", i)})
	}
	return digestOf(columns, nil, func(i int) uint32 {
		if values[i] == nil {
			return null
		}
		return digestText(fmt.Sprint(values[i]))
	})
}

// There is one anchor for each power of eight of the distance, and the newest row always has one. As
// soon as so many rows were delivered, there are as many as there are levels, whatever the batches.
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
					batch = append(batch, anchor{rows - n, nil, intKey(last + n)})
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
				require.True(t, i == 0 || anchors[i-1].back < a.back || a.back == maxBack)
			}
			require.GreaterOrEqual(t, len(anchors), min(last, 3))
		}
		require.Greater(t, len(anchors), 3, "of %d rows", last)
	}
}

// compared is what becomes of anchors of n rows. now returns the row that has the key of the i-th now, the
// newest is 0, or nil.
func compared(n int, old, now func(i int) digest) evidence {
	var anchors []anchor
	rows := map[string]digest{}
	for i := range n {
		a := anchor{i * i, old(i), intKey(100 - i)}
		anchors = append(anchors, a)
		if r := now(i); r != nil {
			rows[keyText(a.key)] = r
		}
	}
	e, _ := compareAnchors(anchors, rows, intKey(100))
	return e
}

func TestCompareAnchors(t *testing.T) {
	t.Parallel()
	old := func(i int) digest { return rowOf(fmt.Sprint("name ", i), i*i, "state") }
	other := func(i int) digest { return rowOf(fmt.Sprint("other ", i), -1-i, "state") }
	only := func(now func(int) digest, which func(i int) bool) func(int) digest {
		return func(i int) digest {
			if which(i) {
				return now(i)
			}
			return old(i)
		}
	}
	for name, c := range map[string]struct {
		now                         func(i int) digest
		proves, doubtful, disproved bool
	}{
		"the same":             {old, true, false, false},
		"all gone":             {func(int) digest { return nil }, false, true, false},
		"pruned":               {only(func(int) digest { return nil }, func(i int) bool { return i > 1 }), true, false, false},
		"the newest is gone":   {only(func(int) digest { return nil }, func(i int) bool { return i == 0 }), false, false, false},
		"the state updated":    {func(i int) digest { return rowOf(fmt.Sprint("name ", i), i*i, "done") }, true, false, false},
		"a column updated":     {func(i int) digest { return rowOf(fmt.Sprint("name ", i), -i-1, "done") }, false, false, false},
		"replaced":             {other, false, true, true},
		"an older backup":      {only(other, func(i int) bool { return i < 2 }), false, true, true},
		"one row replaced":     {only(other, func(i int) bool { return i == 0 }), false, true, false},
		"an older row":         {only(other, func(i int) bool { return i == 3 }), false, true, false},
		"one column, two rows": {only(func(i int) digest { return rowOf("gone", i*i, "done") }, func(i int) bool { return i < 2 }), false, false, false},
	} {
		e := compared(5, old, c.now)
		require.Equal(t, c.proves, e.proves(), "%s: %v", name, e)
		require.Equal(t, c.doubtful, e.doubtful(), "%s: %v", name, e)
		require.Equal(t, c.disproved, e.disproves(), "%s: %v", name, e)
	}
}

// One or two rows do not show which columns tell rows apart. An update leaves most of them alone.
func TestCompareFewAnchors(t *testing.T) {
	t.Parallel()
	old := func(i int) digest { return rowOf(fmt.Sprint("name ", i), i*i, "state") }
	for n := range enough {
		for now, doubtful := range map[string]bool{"state": false, "name": true} {
			e := compared(n, old, func(i int) digest {
				if now == "state" {
					return rowOf(fmt.Sprint("name ", i), i*i, "done")
				}
				return rowOf(fmt.Sprint("other ", i), -1-i, "state")
			})
			require.Equal(t, n > 0 && doubtful, e.doubtful(), "%d, the %s changed: %v", n, now, e)
			require.False(t, e.proves() || e.disproves(), e)
		}
	}
}

// A value that is made of the key is the same in any history, and proves nothing alone.
func TestCompareAnchorsWithAnOrderNumber(t *testing.T) {
	t.Parallel()
	old := func(i int) digest { return rowOf(fmt.Sprint("name ", i), i*i, 1000-i) }
	for newest, doubtful := range []bool{false, false, true, true, true, true} {
		e := compared(5, old, func(i int) digest {
			if i < newest {
				return rowOf(fmt.Sprint("other ", i), -1-i, 1000-i)
			}
			return old(i)
		})
		require.Equal(t, newest == 0, e.proves(), "the newest %d: %v", newest, e)
		require.Equal(t, doubtful, e.doubtful(), "the newest %d: %v", newest, e)
		require.False(t, e.disproves())
	}
}

// Several such values prove nothing against one that changed. Where nothing else tells rows apart, they prove
// only that no row has changed.
func TestCompareAnchorsWithOrderNumbersOnly(t *testing.T) {
	t.Parallel()
	e := compared(5, func(i int) digest { return rowOf(1000-i, fmt.Sprint("orders/", i), fmt.Sprint("email ", i)) },
		func(i int) digest { return rowOf(1000-i, fmt.Sprint("orders/", i), fmt.Sprint("other ", i)) })
	require.False(t, e.proves(), e)
	number := func(state string) func(int) digest {
		return func(i int) digest { return rowOf(1000-i, map[bool]string{true: state, false: "new"}[i == 3]) }
	}
	e = compared(5, number("new"), number("new"))
	require.True(t, e.proves(), e)
	e = compared(5, number("new"), number("done"))
	require.False(t, e.proves(), e)
}

// Rows came back, under keys that are written in another way: that is not as if they were pruned.
func TestCompareAnchorsUnderOtherKeys(t *testing.T) {
	t.Parallel()
	key := func(text string) []dialect.Value { return []dialect.Value{{Tag: dialect.Text, Text: text}} }
	e, _ := compareAnchors([]anchor{{0, rowOf("a"), key("1.00")}}, map[string]digest{keyText(key("1.0000")): rowOf("b")}, key("1.00"))
	require.True(t, e.blind() && e.suspect("a mark") && !e.suspect(""), e)
}

// A value that many rows share proves nothing, nor does one that was NULL.
func TestCompareAnchorsThatAreAlike(t *testing.T) {
	t.Parallel()
	shared := func(i int) digest { return rowOf("v", i%2) }
	e := compared(5, shared, shared)
	require.False(t, e.proves() || e.doubtful() || e.disproves())
	require.Equal(t, 5, e.with[same])
	e = compared(5, shared, func(i int) digest { return rowOf("w", i%2) })
	require.Equal(t, 5, e.with[unclear])
	require.False(t, e.proves() || e.disproves())
	e = compared(5, func(i int) digest { return rowOf("done", map[bool]any{true: nil, false: i}[i < 2]) },
		func(i int) digest { return rowOf("done", i) })
	require.Equal(t, 2, e.with[unclear], "jobs that were finished: %v", e)
	require.False(t, e.disproves())
	e = compared(5, func(i int) digest { return rowOf("done", map[bool]any{true: nil, false: i}[i < 2]) },
		func(i int) digest { return rowOf("done", i+10) })
	require.Equal(t, 3, e.with[replaced], "NULL does not make values alike: %v", e)
}

// A row whose contents are in a large value is not the same because its state is.
func TestCompareAnchorsWithLargeValues(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", maxDigested+1)
	e := compared(5, func(int) digest { return rowOf("new", large) }, func(int) digest { return rowOf("new", large) })
	require.True(t, e.blind() && !e.doubtful() && !e.proves(), e)
	e = compared(5, func(int) digest { return rowOf("new", large) }, func(int) digest { return rowOf("new", nil) })
	require.True(t, e.blind(), "it is read again as NULL: %v", e)
	e = compared(5, func(i int) digest { return rowOf(i, large) }, func(i int) digest { return rowOf(i, large) })
	require.True(t, e.proves() && !e.blind(), e)
	require.Equal(t, 5, compared(5, func(int) digest { return digest{} }, func(int) digest { return digest{} }).with[same], "only a key")
}

// A column whose values are written in another way is another column.
func TestLayoutOfOtherForms(t *testing.T) {
	t.Parallel()
	decimal := dialect.Column{Name: "price", Type: "DECIMAL", Precision: 10, Scale: 2}
	for _, other := range []dialect.Column{{Name: "price", Type: "DECIMAL", Precision: 10, Scale: 4}, {Name: "price", Type: "DECIMAL", Length: 12, Precision: 10, Scale: 2}} {
		require.NotEqual(t, layoutOf([]dialect.Column{decimal}, nil, nil), layoutOf([]dialect.Column{other}, nil, nil))
	}
	require.NotEqual(t, layoutOf([]dialect.Column{decimal}, nil, nil), layoutOf([]dialect.Column{decimal}, nil, map[string]row.Type{"price": {Name: "numeric(10,2)"}}))
	mood := map[string]row.Type{"mood": {Name: "mood"}}
	require.Equal(t, layoutOf([]dialect.Column{{Name: "mood", Type: "16385"}}, nil, mood), layoutOf([]dialect.Column{{Name: "mood", Type: "16391", Length: 4}}, nil, mood),
		"a driver's name for a type is another one in each cluster")
}

// Another layout leaves the columns that are the same, wherever they are.
func TestRealign(t *testing.T) {
	t.Parallel()
	names := func(names ...string) (all []dialect.Column) {
		for _, name := range names {
			all = append(all, dialect.Column{Name: name})
		}
		return all
	}
	before, now := layoutOf(names("id", "a", "b"), []string{"id"}, nil), layoutOf(names("c", "b", "id"), []string{"id"}, nil)
	got := realign([]anchor{{row: digest{7, 8}}}, before, now)
	require.Equal(t, digest{unknown, 8}, got[0].row)
	var many []dialect.Column
	for i := range 500 {
		many = append(many, dialect.Column{Name: fmt.Sprint(i)})
	}
	require.Len(t, layoutOf(many, nil, nil), maxColumns)
	value := func(last string) digest {
		return digestOf(many, nil, func(i int) uint32 { return digestText(map[bool]string{true: last}[i == 499]) })
	}
	require.NotEqual(t, value("a"), value("b"), "the last column counts")
	require.Len(t, value("a"), maxColumns)
	require.EqualValues(t, unknown, value(strings.Repeat("x", maxDigested+1))[maxColumns-1], "it is read again without its large values")
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
	made.values[1] = "A"
	for timeline, follows := range map[string]bool{"A": true, "9": true, "B": false, "10": false} { // of a standby
		h.Parts[1] = dialect.HistoryPart{Name: "timeline", Value: timeline, AtLeast: true}
		require.Equal(t, follows, made.follows(h) == nil, timeline)
		require.Equal(t, timeline != "9", originOf(h, made, "abcd").values[1] == timeline, "%s: the older one stays", timeline)
	}
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
