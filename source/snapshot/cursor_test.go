package snapshot

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
)

func TestCursor(t *testing.T) {
	t.Parallel()
	at := place{history: "0a1b2c3d", session: "s", moment: time.UnixMicro(1_790_000_000_123_456).UTC(), moments: 3,
		tables: "00aa11bb", table: `public."a;b ""ü"`, rows: 42, form: keyed, inner: "2;x;i42;y"}
	c, err := at.encode()
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	require.True(t, Made(c))
	got, err := decode(c)
	require.NoError(t, err)
	require.Equal(t, at, got)
	got, err = decode("")
	require.NoError(t, err)
	require.Equal(t, place{}, got)

	for i := range c { // no damage stays unnoticed
		damaged := []byte(c)
		damaged[i] ^= 1
		_, err := decode(source.Cursor(damaged))
		require.Equal(t, retry.Fatal, retry.Classify(err), "byte %d", i)
	}
	for _, c := range []source.Cursor{"x", c + "x", c[:len(c)-1], "snapshot1;", "\x00"} {
		_, err := decode(c)
		require.Equal(t, retry.Fatal, retry.Classify(err), "%q", c)
	}
	require.False(t, Made("2;x;;"))

	at.inner = strings.Repeat("x", source.MaxCursor)
	_, err = at.encode()
	require.ErrorContains(t, err, "choose a shorter key")
}

func TestPosition(t *testing.T) {
	t.Parallel()
	e := &engine{progress: progress{begun: time.Now()}, tables: []*table{{shown: "a", estimate: 100}, {shown: "b", estimate: 300}, {shown: "c"}}}
	require.Equal(t, "table 1 of 3, a id 7, 12 %", e.position(place{rows: 50}, 0, "id 7"))
	require.Equal(t, "table 2 of 3, b id 7, 99 %", e.position(place{rows: 900}, 1, "id 7"), "an estimate is not exact")
	require.Equal(t, "all rows", e.position(place{form: done}, 2, ""))
	e.progress = progress{begun: time.Now().Add(-time.Minute), known: true, from: 0}
	require.Equal(t, "table 2 of 3, b id 7, 50 %, about 60s left", e.position(place{rows: 100}, 1, "id 7"))
	one := &engine{progress: progress{begun: time.Now()}, tables: []*table{{shown: "a"}}}
	require.Equal(t, "row 5", one.position(place{rows: 5}, 0, "row 5"))
	for d, want := range map[time.Duration]string{time.Second: "1s", 119 * time.Second: "119s", 90 * time.Minute: "90m", 30 * time.Hour: "30h", 49 * time.Hour: "2d"} {
		require.Equal(t, want, roughly(d))
	}
}

func TestShownName(t *testing.T) {
	t.Parallel()
	require.Equal(t, `public."a.b"`, shownName("public", "a.b"))
	require.Equal(t, `public."a""b"`, shownName("public", `a"b`))
}
