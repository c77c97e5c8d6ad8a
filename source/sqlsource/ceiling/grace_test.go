package ceiling

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAges(t *testing.T) {
	const wait = 256 * time.Second
	var a ages[int]
	add := func(value int, second int64) int {
		old, _ := a.add(value, time.Unix(second, 0), wait)
		return old
	}
	add(10, 0)
	add(10, 1)
	add(20, 30)
	add(21, 30) // too soon
	require.Len(t, a, 3)
	require.Zero(t, add(30, 255))
	require.Equal(t, 10, add(30, 256))
	require.Equal(t, 10, add(30, 257))
	require.Zero(t, add(30, 285))
	require.Equal(t, 20, add(30, 286))
	for i := range 100_000 {
		a.add(100+i, time.Unix(2000, int64(i)*1e7), wait)
		require.LessOrEqual(t, len(a), 257)
	}
}
