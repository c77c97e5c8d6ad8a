package diffsource

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// sourceOf returns a source of a table with some rows, whose state is in a directory of the test.
func sourceOf(t *testing.T, rows map[sqlsource.Key]string) (*Source, *fakeTable) {
	t.Helper()
	table := &fakeTable{rng: rand.New(rand.NewPCG(1, 1)), note: func(string, ...any) {}, rows: rows, still: true}
	s := &Source{Table: &sqlsource.Table{Name: "t", Key: []string{"k"}}, Dir: t.TempDir(), table: table, tuning: usual}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, table
}

// A Fetch whose context has ended does not leave the directory locked.
func TestFetchWithEndedContext(t *testing.T) {
	t.Parallel()
	s, _ := sourceOf(t, map[sqlsource.Key]string{"i1;": "a"})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Fetch(ended, "", 10)
	require.ErrorIs(t, err, context.Canceled)
	b, err := s.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
}
