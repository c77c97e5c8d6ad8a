package ceiling

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
)

func TestProgress(t *testing.T) {
	var p Progress
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	p.See(10, at(1))
	p.See(10, at(2))
	p.See(20, at(3))
	asOf, since := p.Advance(5, at(3))
	require.True(t, asOf.IsZero())
	require.Equal(t, at(1), since)
	asOf, since = p.Advance(15, at(4))
	require.Equal(t, at(1), asOf)
	require.Equal(t, at(3), since)
	asOf, since = p.Advance(20, at(5))
	require.Equal(t, at(5), asOf)
	require.True(t, since.IsZero())
	for i := range 2 * MaxFences {
		p.See(int64(100+i), at(10+i))
	}
	require.Len(t, p.seen, MaxFences)
	_, since = p.Advance(99, at(20))
	require.Equal(t, at(10), since)
	last := p.seen[MaxFences-1]
	require.Equal(t, int64(100+2*MaxFences-1), last.high)
}

// Rows above a limit are held within the numbers that were examined. Beyond them they are more.
func TestProgressLimit(t *testing.T) {
	var p Progress
	table := Table{Key: []Column{{Ref: "t.id"}}}
	at := time.Unix(1, 0)
	p.See(30, at)
	l := p.Limit(table, 10, 10, 20, 30, at)
	require.Equal(t, Limit{Where: "t.id <= ?", Args: []any{int64(10)}, Nothing: true, Greatest: 30, Held: &source.Held{Since: at}}, l)
	l = p.Limit(table, 10, 20, 20, 30, at)
	require.Equal(t, Limit{Where: "t.id <= ?", Args: []any{int64(20)}, More: true, Greatest: 30}, l)
	l = p.Limit(table, 20, 30, 30, 30, at)
	require.Equal(t, Limit{Where: "t.id <= ?", Args: []any{int64(30)}, AsOf: at, Greatest: 30}, l)
	require.Equal(t, int64(30), p.NothingAbove(table, 30, 30, at).Greatest)
	require.Zero(t, p.NothingAbove(table, 20, 30, at).Greatest, "the rows from 21 to 30 may have been deleted")
}
