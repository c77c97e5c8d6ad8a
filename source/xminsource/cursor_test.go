package xminsource

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func TestCursor(t *testing.T) {
	s := &Source{Name: "t", print: "p"}
	h := history{values: []string{"123", "1F", "", "a/b;c"}, mark: 77, boot: "2026-01-01 00:00:00+00"}
	for _, p := range []position{
		{from: 5, history: h}, {from: 5, below: 9, history: h}, {below: 9, inner: "2;x;;i7;0a0b0c0d"}, {from: 5, below: 9, inner: "2;x;;si%3B;00000000", history: h, refused: "it is; 100 % gone"},
	} {
		c, err := s.encode(p)
		require.NoError(t, err)
		require.NoError(t, c.Validate())
		again, err := s.decode(c)
		require.NoError(t, err)
		assert.Equal(t, p, again)
		for i := range c { // any change is noticed
			damaged := c[:i] + "8" + c[i+1:]
			if _, err := s.decode(damaged); damaged != c {
				assert.Error(t, err, damaged)
			}
			_, err := s.decode(c[:i])
			assert.True(t, err != nil || i == 0)
		}
		_, err = (&Source{Name: "other", print: "q"}).decode(c)
		require.ErrorContains(t, err, "of another table or key")
	}
	_, err := s.encode(position{below: 9, inner: source.Cursor(strings.Repeat("x", source.MaxCursor))})
	require.ErrorContains(t, err, "choose a shorter key")
}

func TestHistory(t *testing.T) {
	parts := func(cluster, timeline, table string, standby bool) []dialect.HistoryPart {
		return []dialect.HistoryPart{{Name: "cluster", Value: cluster}, {Name: "timeline", Value: timeline, AtLeast: standby}, {Name: "database", Value: "1"}, {Name: "table", Value: table}}
	}
	of := func(cluster, timeline, table, boot string, mark uint64, standby bool) dialect.History {
		return dialect.History{Parts: parts(cluster, timeline, table, standby), Boot: boot, Mark: mark, Standby: standby}
	}
	h := historyOf(of("c", "A", "t", "b", 100, false), 100, history{})
	for name, x := range map[string]struct {
		now     dialect.History
		refused string
	}{
		"the same":                  {of("c", "A", "t", "b", 100, false), ""},
		"restarted":                 {of("c", "A", "t", "b2", 150, false), ""},
		"not known":                 {of("", "", "t", "b2", 150, false), ""},
		"another cluster":           {of("d", "A", "t", "b", 100, false), "cluster"},
		"another table":             {of("c", "A", "u", "b", 100, false), "table"},
		"gone back":                 {of("c", "A", "t", "b2", 99, false), "gone back in time"},
		"promoted":                  {of("c", "B", "t", "b2", 150, false), "timeline A, this is the timeline B"},
		"promoted while it runs":    {of("c", "B", "t", "b", 150, false), ""},
		"a standby, old checkpoint": {of("c", "9", "t", "b2", 150, true), ""},
		"a standby, later":          {of("c", "10", "t", "b2", 150, true), "timeline"},
	} {
		err := h.follows(x.now)
		if x.refused == "" {
			assert.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, x.refused, name)
		var r *refusal
		assert.ErrorAs(t, err, &r, name)
		assert.ErrorIs(t, err, sqlsource.ErrHistory, name)
	}
	assert.ErrorIs(t, h.follows(of("c", "A", "t", "b2", 99, true)), errBehind)
	assert.Equal(t, []string{"c", "A", "1", "t"}, historyOf(of("", "9", "t", "b", 100, true), 100, h).values, "what is not known stays")
}

func TestCondition(t *testing.T) {
	tr := tree{{oid: 1, storage: true}, {oid: 2, storage: true, since: within}, {oid: 3, since: within}, {oid: 4, storage: true, since: later}}
	where, args := tr.condition(position{from: 7 + 1<<32, below: 9 + 1<<32})
	assert.Equal(t, "(age(t.xmin) <= (SELECT age(?::text::xid)) AND age(t.xmin) > (SELECT age(?::text::xid)) OR t.tableoid = ANY (?::text::oid[]) AND "+isOutside+") AND t.tableoid <> ALL (?::text::oid[])", where)
	assert.Equal(t, []any{"7", "9", `{"2"}`, "9", `{"4"}`}, args)
	where, args = tr[:1].condition(position{below: 9})
	assert.Equal(t, isOutside, where)
	assert.Equal(t, []any{"9"}, args)
}

func TestPlaces(t *testing.T) {
	p, err := parsePlace([]byte("4294967295"), []byte("(4294967294,65535)"))
	require.NoError(t, err)
	assert.Equal(t, "(4294967294,65535)", p.tid())
	for _, bad := range []string{"", "(1)", "(1,65536)", "(-1,2)"} {
		_, err := parsePlace([]byte("1"), []byte(bad))
		assert.Error(t, err, bad)
	}
}

// A list knows the cursor of the batch before, which can be fetched again, and no other one.
func TestList(t *testing.T) {
	l := &list{below: 9, entries: make([]place, 10)}
	p := position{from: 5, below: 9}
	assert.False(t, l.serves(p, "a", stamp{}))
	l.reached("a", 0)
	l.reached("b", 4)
	l.reached("b", 4)
	assert.Equal(t, []int{0, 4, -1}, []int{l.place("a"), l.place("b"), l.place("c")})
	assert.True(t, l.serves(p, "a", stamp{}))
	assert.False(t, l.serves(p, "a", stamp{boot: "another"}))
	assert.False(t, l.serves(position{from: 5, below: 8}, "a", stamp{}))
	assert.Len(t, l.piece(8, 5), 2)
	assert.Equal(t, int64(6), l.pending())
	l.reached("end", 10)
	assert.True(t, l.serves(p, "end", stamp{}))
	l.full = true
	assert.False(t, l.serves(p, "end", stamp{}), "it must be made again")
	assert.Zero(t, l.pending())
	assert.True(t, l.stuck(10), "none of its rows could be read")
	assert.False(t, l.stuck(9))
	l.used = true
	assert.False(t, l.stuck(10))
}
