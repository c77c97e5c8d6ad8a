package diffsource

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// counted is a table that counts its look-ups.
type counted struct {
	fakeKeys
	lookUps *int
}

func (c counted) FetchRows(ctx context.Context, keys []sqlsource.Key) ([]row.Row, []sqlsource.Key, error) {
	*c.lookUps++
	return c.fakeKeys.FetchRows(ctx, keys)
}

// The keys of a batch that was not saved are looked up only if no row has them, and only if another key can equal them. A Fetch
// stops after a look-up if it takes long, and keeps the rows that it has found.
func TestUnsavedKeysAreLookedUpInParts(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"i%d;", "sa%d;"} {
		rows := map[sqlsource.Key]string{}
		for i := range 300 {
			rows[sqlsource.Key(fmt.Sprintf(kind, i))] = "v"
		}
		s, table := sourceOf(t, rows)
		n := 0
		s.keys = counted{fakeKeys{table}, &n}
		first := begun(t, s)
		_, err := s.Fetch(t.Context(), first, 1000)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		b, err := s.Fetch(t.Context(), first, 1000)
		require.NoError(t, err)
		require.Len(t, b.Records, 300)
		require.Zero(t, n)
		require.NoError(t, s.Close())
		clear(rows)
		s.tuning.scanFor = -1
		deleted, fetches := 0, 0
		for at, more := first, true; more; fetches++ {
			before := n
			b, err = s.Fetch(t.Context(), at, 1000)
			require.NoError(t, err)
			require.NotEqual(t, at, b.To)
			require.LessOrEqual(t, n, before+1)
			at, more, deleted = b.To, b.More, deleted+len(b.Records)
			require.NoError(t, s.Close()) // saved keys are not looked up again
		}
		require.Equal(t, 300, deleted)
		if kind[0] == 'i' {
			require.Zero(t, n)
		} else {
			require.Greater(t, n, 2)
		}
	}
}

// A row of a batch that was not saved, and that cannot be read any more, is a BadRecord, and is not deleted.
func TestUnsavedRowThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"i%d;", "sa%d;"} {
		rows := map[sqlsource.Key]string{}
		for i := 1; i <= 3; i++ {
			rows[sqlsource.Key(fmt.Sprintf(kind, i))] = "v"
		}
		s, _ := sourceOf(t, rows)
		at := begun(t, s)
		_, err := s.Fetch(t.Context(), at, 100)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		rows[sqlsource.Key(fmt.Sprintf(kind, 2))] = "bad"
		bad := 0
		var ops []row.Op
		for more := true; more; {
			b, err := s.Fetch(t.Context(), at, 100)
			var record *source.BadRecord
			if errors.As(err, &record) {
				bad++
				at = record.To
				continue
			}
			require.NoError(t, err)
			for _, c := range b.Records {
				ops = append(ops, c.Op)
			}
			at, more = b.To, b.More
		}
		require.Equal(t, 1, bad)
		require.Equal(t, []row.Op{row.Upsert, row.Upsert}, ops)
	}
}

// A key that was delivered and not saved is deleted after a row has taken its place whose key equals it in the collation. That
// row follows, also if the process dies in between.
func TestUnsavedKeyIsSpelledInAnotherWay(t *testing.T) {
	t.Parallel()
	rows := map[sqlsource.Key]string{"sA1;": "one", "sb2;": "two"}
	s, _ := sourceOf(t, rows)
	at := begun(t, s)
	_, err := s.Fetch(t.Context(), at, 100)
	require.NoError(t, err)
	delete(rows, "sA1;")
	rows["sa1;"] = "one"
	var got []string
	for more := true; more; {
		require.NoError(t, s.Close())
		b, err := s.Fetch(t.Context(), at, 1)
		require.NoError(t, err)
		got, at, more = append(got, texts(b)...), b.To, b.More
		if len(got) > 20 {
			break
		}
	}
	// A restart after each change begins the correction again, until one batch has both changes.
	require.Equal(t, []string{"upsert a1 one", "upsert b2 two", "delete A1", "delete A1"}, got[:4])
	require.NoError(t, s.Close())
	b, err := s.Fetch(t.Context(), at, 100)
	require.NoError(t, err)
	require.Equal(t, []string{"delete A1", "upsert a1 one"}, texts(b))
	b, err = s.Fetch(t.Context(), b.To, 100)
	require.NoError(t, err)
	require.Empty(t, b.Records)
}
