package diffsource

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// texts returns the operation, the key and the value of each change.
func texts(b source.Batch[row.Change]) (all []string) {
	for _, c := range b.Records {
		text := c.Op.String() + " " + c.Key.Text(0)
		if c.Row.Len() > 0 {
			text += " " + c.Row.Text(1)
		}
		all = append(all, text)
	}
	return all
}

// A sink that does not store the cursor with the records has a batch that was not saved. What was taken back in the table
// before the restart is delivered again.
func TestBatchThatWasNotSaved(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]sqlsource.Key{{"i1;", "i2;", "i3;", "i5;"}, {"sa1;", "sb2;", "sc3;", "se5;"}} {
		rows := map[sqlsource.Key]string{keys[0]: "one", keys[1]: "two", keys[2]: "three"}
		s, table := sourceOf(t, rows)
		table.texts = keys[0][0] == 's'
		table.order = map[byte]int{'a': 0, 'b': 1, 'c': 2, 'e': 3}
		fetch := func(at source.Cursor) (got []string, to source.Cursor) {
			b, err := s.Fetch(t.Context(), at, 100)
			require.NoError(t, err)
			return texts(b), b.To
		}
		name := func(i int) string { return strings.Trim(string(keys[i])[1:], ";") }
		got, at := fetch(begun(t, s))
		require.Len(t, got, 3)

		rows[keys[0]], rows[keys[3]] = "changed", "five"
		delete(rows, keys[2])
		want := []string{"update " + name(0) + " changed", "delete " + name(2), "insert " + name(3) + " five"}
		for range 3 { // the table stands still
			require.NoError(t, s.Close())
			got, _ = fetch(at)
			require.Equal(t, want, got)
		}
		require.NoError(t, s.Close())
		rows[keys[0]], rows[keys[2]] = "one", "three"
		delete(rows, keys[3])
		got, to := fetch(at)
		require.Equal(t, []string{"upsert " + name(0) + " one", "upsert " + name(2) + " three", "delete " + name(3)}, got)
		require.NoError(t, s.Close())
		got, same := fetch(to)
		require.Empty(t, got)
		require.Equal(t, to, same)
	}
}

// The first batch is delivered with a cursor, so that a restart finds it.
func TestFirstBatchThatWasNotSaved(t *testing.T) {
	t.Parallel()
	s, table := sourceOf(t, map[sqlsource.Key]string{"i1;": "one", "i2;": "two"})
	first, err := s.Fetch(t.Context(), "", 100)
	require.NoError(t, err)
	require.Empty(t, first.Records)
	require.True(t, first.More)
	require.Regexp(t, "^pass 1 of .*, before the first row$", first.Position)
	b, err := s.Fetch(t.Context(), first.To, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"upsert 1 one"}, texts(b))
	require.NoError(t, s.Close())
	delete(table.rows, "i1;")
	b, err = s.Fetch(t.Context(), first.To, 100)
	require.NoError(t, err)
	require.Equal(t, []string{"upsert 2 two", "delete 1"}, texts(b))
	require.Equal(t, "k", b.Records[1].Key.Columns().Name(0))
}
