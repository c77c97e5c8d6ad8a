package ceiling

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGraceMarks(t *testing.T) {
	g := &grace{wait: 64 * time.Second}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	g.mark(10, at(0))
	g.mark(10, at(1))
	g.mark(20, at(30))
	g.mark(21, at(30)) // too soon
	require.Len(t, g.marks, 2)
	g.mark(30, at(63))
	require.Zero(t, g.horizon)
	g.mark(30, at(64))
	require.EqualValues(t, 10, g.horizon)
	g.mark(30, at(127))
	require.EqualValues(t, 30, g.horizon)
	for i := range 100_000 {
		g.mark(int64(100+i), time.Unix(200, int64(i)*1e7))
		require.LessOrEqual(t, len(g.marks), 65)
	}
}
