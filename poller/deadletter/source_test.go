package deadletter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
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

// The letter of a record that the sink named has the cursor after a batch. The JSON of
// the record shows that no other has taken its place.
func TestRefetchOfANamedRecord(t *testing.T) {
	t.Parallel()
	type secret struct {
		ID     int
		Name   string
		hidden string
	}
	var src sourcetest.Fake[secret]
	for i := range 10 {
		src.Append(secret{i + 1, "<&>", "x"})
	}
	dir := t.TempDir()
	d, err := deadletter.Open[secret](dir, deadletter.Options{})
	require.NoError(t, err)
	defer d.Close()
	run := func(from source.Source[secret], dead sink.Sink[poller.Rejected[secret]], bad ...int) (stored []secret, err error) {
		p := &poller.Poller[secret]{
			Name: "secrets", Source: from, Checkpointer: &pollertest.Checkpointer{}, DeadLetter: dead, Logger: slog.New(slog.DiscardHandler),
			Sink: sink.Each(1, func(_ context.Context, s secret) error {
				if slices.Contains(bad, s.ID) {
					return sink.Reject(errors.New("422"))
				}
				stored = append(stored, s)
				return nil
			}),
		}
		return stored, p.Drain(t.Context())
	}
	_, err = run(&src, d, 1, 4, 10)
	require.NoError(t, err)
	stored, err := run(&deadletter.Source[secret]{Dir: dir, Refetch: &src}, nil)
	require.NoError(t, err)
	assert.Equal(t, []secret{{1, "<&>", "x"}, {4, "<&>", "x"}, {10, "<&>", "x"}}, stored)

	var deleted sourcetest.Fake[secret]
	for i := range 10 {
		deleted.Append(secret{i + 2, "<&>", "x"})
	}
	stored, err = run(&deadletter.Source[secret]{Dir: dir, Refetch: &deleted}, nil)
	require.ErrorContains(t, err, "Refetch may have another record in its place")
	assert.Empty(t, stored)
}

// A selection needs its own checkpoint, so that it loses no letter that it skips.
func TestOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stored []int
	require.NoError(t, pipeline(items(9, nil), refuse(map[int]bool{2: true, 4: true, 6: true}, &stored), open(t, dir)).Drain(t.Context()))
	letters := list(t, dir)
	one, other := []string{letters[1].ID}, []string{letters[0].ID, letters[1].ID}
	stored = nil
	p := pipeline(&deadletter.Source[item]{Dir: dir, Only: one}, refuse(nil, &stored), nil)
	require.NoError(t, p.Drain(t.Context()))
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, []int{4}, stored)

	for _, only := range [][]string{nil, other, {}} {
		p.Source = &deadletter.Source[item]{Dir: dir, Only: only}
		err := p.Drain(t.Context())
		require.ErrorContains(t, err, "is of another selection of letters")
		require.Equal(t, retry.Fatal, retry.Classify(err))
	}
	stored = nil
	p = pipeline(&deadletter.Source[item]{Dir: dir, Only: other}, refuse(nil, &stored), nil)
	require.NoError(t, p.Drain(t.Context()))
	p.Source = &deadletter.Source[item]{Dir: dir, Only: []string{other[1], other[0]}}
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, []int{2, 4}, stored, "the order of the IDs is ignored")
}

// A cursor of letters that were removed since is an error at once, and passes over no
// new letter.
func TestClearedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stored []int
	write := func(bad ...int) {
		refused := map[int]bool{}
		for _, n := range bad {
			refused[n] = true
		}
		letters, err := deadletter.Open[item](dir, deadletter.Options{})
		require.NoError(t, err)
		require.NoError(t, pipeline(items(9, nil), refuse(refused, new([]int)), letters).Drain(t.Context()))
		require.NoError(t, letters.Close())
	}
	write(1, 2)
	p := pipeline(&deadletter.Source[item]{Dir: dir}, refuse(nil, &stored), nil)
	require.NoError(t, p.Drain(t.Context()))
	require.NoError(t, os.RemoveAll(dir))
	for range 2 {
		err := p.Drain(t.Context())
		require.ErrorContains(t, err, "the directory was cleared or replaced since; begin the replay again with a new checkpoint")
		require.Equal(t, retry.Fatal, retry.Classify(err))
		write(3, 4, 5)
	}
	p.Checkpointer = &pollertest.Checkpointer{}
	require.NoError(t, p.Drain(t.Context()))
	assert.Equal(t, []int{1, 2, 3, 4, 5}, stored)
}

// A cursor of releases before cursors had a label.
func TestOldCursor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stored []int
	require.NoError(t, pipeline(items(9, nil), refuse(map[int]bool{2: true, 4: true}, &stored), open(t, dir)).Drain(t.Context()))
	text, err := os.ReadFile(filepath.Join(dir, "letters-0000000001.jsonl.open"))
	require.NoError(t, err)
	old := source.Cursor(fmt.Sprintf("letters:1:%d", bytes.IndexByte(text, '\n')+1))
	b, err := (&deadletter.Source[item]{Dir: dir}).Fetch(t.Context(), old, 9)
	require.NoError(t, err)
	require.Equal(t, []item{{ID: 4}}, b.Records)
	_, err = (&deadletter.Source[item]{Dir: dir, Only: []string{"x"}}).Fetch(t.Context(), old, 9)
	require.ErrorContains(t, err, "is of another selection")
}

// A batch ends after 8 MB, whether records come from letters or from their source.
func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := deadletter.Open[string](dir, deadletter.Options{})
	require.NoError(t, err)
	defer d.Close()
	large := strings.Repeat("x", 3<<20)
	for i := range 8 {
		r := poller.Rejected[string]{Record: large, From: "0", To: source.Cursor(fmt.Sprint(i + 1)), Index: i}
		if i%2 == 0 {
			r = poller.Rejected[string]{Key: fmt.Sprint("id ", i), From: "0", To: "9"}
		}
		require.NoError(t, d.Write(t.Context(), source.Batch[poller.Rejected[string]]{Records: []poller.Rejected[string]{r}}))
	}
	s := &deadletter.Source[string]{Dir: dir, Refetch: source.Func[string](func(_ context.Context, after source.Cursor, _ int) (source.Batch[string], error) {
		return source.Batch[string]{From: after, To: "9", Records: []string{large}, Bytes: len(large)}, nil
	})}
	var sizes []int
	after := source.Cursor("")
	for more := true; more; {
		b, err := s.Fetch(t.Context(), after, 100)
		require.NoError(t, err)
		sizes, after, more = append(sizes, len(b.Records)), b.To, b.More
	}
	assert.Equal(t, []int{3, 3, 2}, sizes)
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
		Foreign:  []source.Cursor{"v1:42", "letters:1", "letters:1:-5", "letters:01:5", "letters:1:99999999", "letters:1:5:5", "letters:", "letters::1:5", "letters:1:-5:5", "letters:a-b:1:5", "x:1:5"},
	}))
}
