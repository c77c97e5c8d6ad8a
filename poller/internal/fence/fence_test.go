package fence

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

func TestMove(t *testing.T) {
	t.Parallel()
	h := &Handle{me: "me"}
	_, _, err := h.Move(State{}, "", "a")
	require.ErrorIs(t, err, poller.ErrConflict, "not loaded")
	require.ErrorContains(t, err, "call Load first")
	h.Loaded(State{Cursor: "a", Writer: "other", Seq: 7})
	for name, c := range map[string]struct {
		stored   State
		from, to source.Cursor
		want     string
	}{
		"as loaded":              {State{Cursor: "a", Writer: "other", Seq: 7}, "a", "b", "moved"},
		"as saved":               {State{Cursor: "b", Writer: "me", Seq: 8}, "b", "c", "moved"},
		"answer lost":            {State{Cursor: "b", Writer: "me", Seq: 8}, "a", "b", "kept"},
		"another wrote the same": {State{Cursor: "b", Writer: "third", Seq: 8}, "a", "b", "conflict"},
		"another went on":        {State{Cursor: "b", Writer: "other", Seq: 8}, "b", "c", "conflict"},
		"there and back":         {State{Cursor: "a", Writer: "other", Seq: 9}, "a", "b", "conflict"},
		"edited, writer kept":    {State{Cursor: "z", Writer: "me", Seq: 8}, "b", "c", "conflict"},
		"wrong from":             {State{Cursor: "a", Writer: "other", Seq: 7}, "x", "b", "conflict"},
	} {
		next, moved, err := h.Move(c.stored, c.from, c.to)
		switch {
		case c.want == "conflict":
			require.ErrorIs(t, err, poller.ErrConflict, name)
			assert.ErrorContains(t, err, `found "`+string(c.stored.Cursor)+`" by "`+c.stored.Writer+`"`, name)
		case c.want == "moved":
			require.NoError(t, err, name)
			assert.True(t, moved, name)
			assert.Equal(t, State{c.to, "me", c.stored.Seq + 1, next.Time}, next, name)
		default:
			require.NoError(t, err, name)
			assert.False(t, moved, name)
		}
	}
}
