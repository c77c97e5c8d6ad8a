package deadletter_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// Another record that has taken the place of the one in a letter is not delivered.
func TestRecordIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	var stored []int
	require.NoError(t, pipeline(items(2, map[int]bool{1: true}), refuse(nil, &stored), d).Drain(t.Context()))
	without1 := source.Func[item](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[item], error) {
		b, err := items(2, nil).Fetch(ctx, "item 1", limit)
		b.From = after
		return b, err
	})
	empty := items(0, nil)
	for _, src := range []source.Source[item]{without1, empty} {
		var gone []string
		stored = nil
		s := &deadletter.Source[item]{Dir: dir, Refetch: src, Gone: func(l deadletter.Letter) { gone = append(gone, l.Key) }}
		require.NoError(t, pipeline(s, refuse(nil, &stored), nil).Drain(t.Context()))
		assert.Empty(t, stored)
		assert.Equal(t, []string{"id 1"}, gone)
	}

	noPosition := source.Func[item](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[item], error) {
		b, err := without1.Fetch(ctx, after, limit)
		b.Position = ""
		return b, err
	})
	err := pipeline(&deadletter.Source[item]{Dir: dir, Refetch: noPosition}, refuse(nil, &stored), nil).Drain(t.Context())
	require.ErrorContains(t, err, "Refetch may have another record in its place")
}

func TestOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stored []int
	require.NoError(t, pipeline(items(9, nil), refuse(map[int]bool{2: true, 4: true, 6: true}, &stored), open(t, dir)).Drain(t.Context()))
	stored = nil
	id := list(t, dir)[1].ID
	s := &deadletter.Source[item]{Dir: dir, Only: func(l deadletter.Letter) bool { return l.ID == id }}
	require.NoError(t, pipeline(s, refuse(nil, &stored), nil).Drain(t.Context()))
	assert.Equal(t, []int{4}, stored)
}

// A Source of letters keeps the contract of a source.
func TestSourceContract(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad, expected := map[int]bool{}, []item{}
	for i := 1; i <= 12; i++ {
		bad[2*i] = true
		expected = append(expected, item{ID: 2 * i})
	}
	var stored []int
	p := pipeline(items(30, nil), refuse(bad, &stored), open(t, dir))
	require.NoError(t, p.Drain(t.Context()))
	require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[item]{
		Open:     func(context.Context) (source.Source[item], error) { return &deadletter.Source[item]{Dir: dir}, nil },
		Expected: expected,
		Foreign:  []source.Cursor{"v1:42", "letters:1", "letters:1:-5", "letters:01:5", "letters:1:99999999", "letters:1:5:5"},
	}))
}
