package durable

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

func TestMove(t *testing.T) {
	t.Parallel()
	loaded := State{Cursor: "a", Writer: "other", Seq: 7}
	for name, c := range map[string]struct {
		stored   State
		from, to source.Cursor
		want     string
	}{
		"as loaded":              {State{Cursor: "a", Writer: "other", Seq: 7}, "a", "b", "moved"},
		"as loaded, stays":       {State{Cursor: "a", Writer: "other", Seq: 7}, "a", "a", "moved"},
		"as stored":              {State{Cursor: "b", Writer: "me", Seq: 8}, "b", "c", "moved"},
		"answer lost":            {State{Cursor: "b", Writer: "me", Seq: 8}, "a", "b", "stored before"},
		"answer lost, longer":    {State{Cursor: "b", Writer: "me", Seq: 8}, "a", "c", "conflict"},
		"another stored same":    {State{Cursor: "b", Writer: "third", Seq: 8}, "a", "b", "conflict"},
		"another went on":        {State{Cursor: "b", Writer: "other", Seq: 8}, "b", "c", "conflict"},
		"moved away and back":    {State{Cursor: "a", Writer: "other", Seq: 9}, "a", "b", "conflict"},
		"edited, writer kept":    {State{Cursor: "z", Writer: "me", Seq: 8}, "b", "c", "conflict"},
		"edited, other writer":   {State{Cursor: "a", Writer: "anna", Seq: 7}, "a", "b", "conflict"},
		"emptied":                {State{}, "a", "b", "conflict"},
		"wrong from":             {State{Cursor: "a", Writer: "other", Seq: 7}, "x", "b", "conflict"},
		"to is not printable":    {State{Cursor: "a", Writer: "other", Seq: 7}, "a", "b\n", "invalid"},
		"from is not printable":  {State{Cursor: "a", Writer: "other", Seq: 7}, "\x00", "b", "invalid"},
		"invalid, answer lost":   {State{Cursor: "b\n", Writer: "me", Seq: 7}, "a", "b\n", "invalid"},
		"time is never compared": {State{Cursor: "a", Writer: "other", Seq: 7, Time: time.Unix(1, 0)}, "a", "b", "moved"},
	} {
		f := &Fence{token: "me"}
		f.Loaded(loaded)
		next, moved, err := f.Move(c.stored, c.from, c.to)
		switch c.want {
		case "moved":
			require.NoError(t, err, name)
			assert.True(t, moved, name)
			assert.Equal(t, State{c.to, "me", c.stored.Seq + 1, next.Time}, next, name)
			assert.WithinDuration(t, time.Now(), next.Time, time.Minute, name)
		case "stored before":
			require.NoError(t, err, name)
			assert.False(t, moved, name)
			assert.Equal(t, c.stored, next, name)
		case "conflict":
			require.ErrorIs(t, err, sink.ErrConflict, name)
			assert.ErrorContains(t, err, fmt.Sprintf("found %q, stored by", c.stored.Cursor), name)
		default:
			require.ErrorContains(t, err, "fix the source", name)
			require.NotErrorIs(t, err, sink.ErrConflict, name)
		}
	}
}

func TestConflictSaysWhoAndWhen(t *testing.T) {
	t.Parallel()
	f := &Fence{token: "me"}
	f.Loaded(State{})
	_, _, err := f.Move(State{"b", "anna", 2, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, "a", "c")
	require.EqualError(t, err, `checkpoint was moved by another writer: expected "a", stored by nobody or by this handle ("me"); `+
		`found "b", stored by "anna" at 2026-01-02T03:04:05Z: load the cursor again, and run one pipeline only`)
}

func TestZeroFence(t *testing.T) {
	t.Parallel()
	var f, g Fence
	require.ErrorIs(t, f.Check("", "a"), sink.ErrConflict, "not loaded")
	_, _, err := f.Move(State{}, "", "a")
	require.ErrorContains(t, err, "call Load first")
	f.Loaded(State{})
	g.Loaded(State{})
	require.NoError(t, f.Check("", "a"))
	require.ErrorContains(t, f.Check("", "ä"), "fix the source")
	a, moved, err := f.Move(State{}, "", "a")
	require.NoError(t, err)
	require.True(t, moved)
	require.Len(t, a.Writer, 12)
	b, _, err := f.Move(a, "a", "b")
	require.NoError(t, err)
	require.Equal(t, a.Writer, b.Writer, "one token for each Fence")
	require.Equal(t, int64(2), b.Seq)
	other, _, err := g.Move(State{}, "", "a")
	require.NoError(t, err)
	require.NotEqual(t, a.Writer, other.Writer)
}

func TestRewound(t *testing.T) {
	t.Parallel()
	var f Fence
	f.Loaded(State{})
	stored, _, err := f.Move(State{}, "", "a")
	require.NoError(t, err)
	for _, to := range []source.Cursor{"", "a", "b"} { // back, to where it is, to where the handle goes next
		rewound, err := Rewound(stored, to)
		require.NoError(t, err)
		require.Equal(t, to, rewound.Cursor)
		require.Regexp(t, "^rewind-", rewound.Writer)
		require.LessOrEqual(t, len(rewound.Writer), 32)
		require.Equal(t, stored.Seq+1, rewound.Seq)
		for _, from := range []source.Cursor{"", "a", "b"} {
			_, _, err = f.Move(rewound, from, "b")
			require.ErrorIs(t, err, sink.ErrConflict)
		}
		f.Loaded(rewound)
		_, moved, err := f.Move(rewound, to, "c")
		require.NoError(t, err)
		require.True(t, moved)
		f.Loaded(stored)
	}
	_, err = Rewound(stored, "\n")
	require.ErrorContains(t, err, "fix the source")
}

// Several handles move one cursor up and down. Answers get lost, transactions are
// rolled back, and a person rewinds. A handle may store only if nobody else has
// stored since it loaded or stored last, and may be told that it stored before
// only if it did.
func TestOnlyWhoKnowsTheStateStores(t *testing.T) {
	t.Parallel()
	type handle struct {
		fence  Fence
		at     source.Cursor
		loaded int // the version it has loaded
	}
	moves, repeats, conflicts := 0, 0, 0
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		cursor := func() source.Cursor { return source.Cursor("abc"[rng.IntN(3):][:1]) }
		var stored State
		version, owner := 0, -1 // changes of stored, and whose the last one was; -1 is a person
		handles := make([]handle, 3)
		for range 200 {
			i := rng.IntN(len(handles))
			h := &handles[i]
			if rng.IntN(20) == 0 {
				h.fence.Loaded(stored)
				h.at, h.loaded = stored.Cursor, version
			}
			if rng.IntN(50) == 0 {
				rewound, err := Rewound(stored, cursor())
				require.NoError(t, err)
				stored, owner = rewound, -1
				version++
			}
			to := cursor()
			next, moved, err := h.fence.Move(stored, h.at, to)
			switch {
			case err != nil:
				require.ErrorIs(t, err, sink.ErrConflict)
				conflicts++
				continue
			case !moved:
				require.True(t, owner == i && stored.Cursor == to, "seed %d: not stored by this handle", seed)
				repeats++
			default:
				require.True(t, stored.Cursor == h.at && (owner == i || version == h.loaded), "seed %d: another has stored", seed)
				moves++
				if rng.IntN(5) == 0 { // rolled back
					continue
				}
				stored, owner = next, i
				version++
			}
			if rng.IntN(4) > 0 { // the caller gets the answer
				h.at = to
			}
		}
	}
	require.Greater(t, moves, 1000)
	require.Greater(t, repeats, 1000)
	require.Greater(t, conflicts, 1000)
}
