package diffsource

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// sourceOf returns a source of a table with some rows, whose state is in a directory of the test.
func sourceOf(t *testing.T, rows map[sqlsource.Key]string) (*Source, *fakeTable) {
	t.Helper()
	table := &fakeTable{rng: rand.New(rand.NewPCG(1, 1)), note: func(string, ...any) {}, rows: rows, still: true}
	s := &Source{Table: &sqlsource.Table{Name: "t", Key: []string{"k"}}, Dir: t.TempDir(), table: table, keys: fakeKeys{table}, tuning: usual}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, table
}

// begun returns the cursor of the first Fetch, which delivers nothing.
func begun(t *testing.T, s *Source) source.Cursor {
	t.Helper()
	b, err := s.Fetch(t.Context(), "", 1)
	require.NoError(t, err)
	require.Empty(t, b.Records)
	return b.To
}

// A Fetch whose context has ended does not leave the directory locked.
func TestFetchWithEndedContext(t *testing.T) {
	t.Parallel()
	s, _ := sourceOf(t, map[sqlsource.Key]string{"i1;": "a"})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Fetch(ended, "", 10)
	require.ErrorIs(t, err, context.Canceled)
	b, err := s.Fetch(t.Context(), begun(t, s), 10)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
}

// A clock that was set back since a pass began does not stop the next pass, and AsOf is not in the future.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{0, time.Hour} {
		s, table := sourceOf(t, map[sqlsource.Key]string{"i1;": "a"})
		s.Every = every
		b, err := s.Fetch(t.Context(), begun(t, s), 10)
		require.NoError(t, err)
		require.False(t, b.AsOf.IsZero())
		at, err := decode(b.To, identity(s.Table))
		require.NoError(t, err)
		at.began = time.Now().Add(24 * time.Hour).UnixMilli()
		table.rows["i2;"] = "b"
		b, err = s.Fetch(t.Context(), at.encode(identity(s.Table)), 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		require.False(t, b.AsOf.After(time.Now()))
		table.rows["i3;"] = "c"
		table.rows["i4;"] = "d"
		b, err = s.Fetch(t.Context(), at.encode(identity(s.Table)), 1)
		require.NoError(t, err)
		require.True(t, b.More)
		require.True(t, b.AsOf.IsZero(), "what the last pass has seen is not known")
	}
}

func TestPassOverAStandbyHasNoAsOf(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(-time.Minute).UnixMilli()
	require.True(t, cursor{pass: 2, complete: true, replica: true, began: now, last: now}.asOf().IsZero())
	require.Equal(t, now, cursor{pass: 2, replica: true, began: now, last: now}.asOf().UnixMilli(), "that of the pass before")
	s, table := sourceOf(t, map[sqlsource.Key]string{"i1;": "a", "i2;": "b"})
	b, err := s.Fetch(t.Context(), begun(t, s), 1)
	require.NoError(t, err)
	s.replica = true // as the ceiling of a table notes it
	b, err = s.Fetch(t.Context(), b.To, 10)
	require.NoError(t, err)
	require.False(t, b.More)
	require.True(t, b.AsOf.IsZero())
	s.Every = time.Hour
	b, err = s.Fetch(t.Context(), b.To, 10)
	require.NoError(t, err)
	require.True(t, b.AsOf.IsZero())
	s.Every = 0
	delete(table.rows, "i2;")
	b, err = s.Fetch(t.Context(), b.To, 10)
	require.NoError(t, err)
	require.False(t, b.AsOf.IsZero(), "it is the primary now")
}

// failing is a table whose calls fail from one on.
type failing struct {
	*fakeTable
	left int
}

func (f *failing) FetchKeyed(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], []sqlsource.Key, error) {
	if f.left--; f.left < 0 {
		return source.Batch[row.Row]{}, nil, errTable
	}
	return f.fakeTable.FetchKeyed(ctx, after, limit)
}

// A Fetch that fails leaves no state.
func TestFailedFetchLeavesNoState(t *testing.T) {
	t.Parallel()
	rows := map[sqlsource.Key]string{}
	for i := range 6000 {
		rows[sqlsource.Key(fmt.Sprintf("i%d;", i))] = "v"
	}
	s, table := sourceOf(t, rows)
	s.tuning.scanFor, s.tuning.pageRows = time.Hour, 5000
	first := begun(t, s)
	for range 3 {
		s.table = &failing{table, 1}
		_, err := s.Fetch(t.Context(), first, 10_000)
		require.ErrorIs(t, err, errTable)
		files, err := filepath.Glob(filepath.Join(s.Dir, "*.state"))
		require.NoError(t, err)
		require.Empty(t, files)
	}
	s.table = table
	b, err := s.Fetch(t.Context(), first, 10_000)
	require.NoError(t, err)
	require.Len(t, b.Records, 6000)
}
