package verify

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// The end of the files is compared, however the cursor has moved since the last row.
func TestCursorWithoutRows(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	orders(t, dbtest.NCruces, db, 100)
	for name, move := range map[string]func(c *copying, files *filesink.Dir[row.Row], at source.Cursor) error{
		"adopted": func(c *copying, files *filesink.Dir[row.Row], at source.Cursor) error {
			return files.Rewind(at)
		},
		"adopted twice": func(c *copying, files *filesink.Dir[row.Row], at source.Cursor) error {
			return errors.Join(files.Rewind(at), files.Rewind(at))
		},
		"set back and forth": func(c *copying, files *filesink.Dir[row.Row], at source.Cursor) error {
			back, err := c.settings().At(3)
			return errors.Join(err, files.Rewind(back), files.Rewind(at))
		},
		"stored again": func(c *copying, files *filesink.Dir[row.Row], at source.Cursor) error {
			was, err := files.Load(c.t.Context()) // with another history, as after a refusal
			return errors.Join(err, files.Save(c.t.Context(), was, at))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
			c.drain()
			files, err := filesink.Open(c.dir, c.o)
			require.NoError(t, err)
			require.NoError(t, files.Seal(t.Context()))
			at, err := c.settings().At(100)
			require.NoError(t, err)
			require.NoError(t, move(c, files, at))
			require.NoError(t, files.Close())
			require.Empty(t, c.finds("", "", "").Notes)
			c.edit(2, func(s string) string { return strings.SplitAfter(s, "\n")[0] })
			require.EqualValues(t, 9, c.verify().Missing())
		})
	}
}

// Rows that no rewind explains are found, and a segment that has lost its rows.
func TestSegmentsChanged(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	orders(t, dbtest.NCruces, db, 100)
	for _, format := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row]()} {
		c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
		c.o.Encoder, c.o.SegmentRows = format, 30
		c.drain()
		second, err := os.ReadFile(c.segment(2))
		require.NoError(t, err)
		third, err := os.ReadFile(c.segment(3))
		require.NoError(t, err)
		rows := string(third)
		if header := "id,name\r\n"; strings.HasPrefix(rows, header) {
			rows = rows[len(header):]
		}
		require.NoError(t, os.WriteFile(c.segment(3), append(second, rows...), 0o600))
		r := c.verify()
		require.False(t, r.Equal())
		require.EqualValues(t, 30, r.Parts[0].Extra.Records, "%s", r)
		require.Contains(t, r.String(), "An extra row is in the files and not in the table, or twice in the files: ")
		require.NoError(t, os.WriteFile(c.segment(3), third, 0o600))
		c.finds("", "", "")

		for n := 1; n <= 3; n++ {
			good, err := os.ReadFile(c.segment(n))
			require.NoError(t, err)
			for _, text := range []string{"", "id,name\r\n"} {
				require.NoError(t, os.WriteFile(c.segment(n), []byte(text), 0o600))
				r = c.verify()
				require.EqualValues(t, 30, r.Missing(), "segment %d: %s", n, r)
			}
			require.NoError(t, os.WriteFile(c.segment(n), good, 0o600))
		}
	}
}

// A row that cannot be read is missing, also if it is the first one or the last.
func TestRowsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	db.MustExec("CREATE TABLE orders (id integer PRIMARY KEY AUTOINCREMENT, name text)")
	db.MustExec("INSERT INTO orders (name) VALUES (zeroblob(5000)), ('a'), ('b'), (zeroblob(5000)), ('c'), (zeroblob(5000))")
	c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, MaxRowBytes: 1000})
	p, end := c.poller()
	p.DeadLetter = sink.Func[poller.Rejected[row.Row]](func(context.Context, source.Batch[poller.Rejected[row.Row]]) error { return nil })
	require.NoError(t, p.Drain(t.Context()))
	end()
	c.finds("id 1 id 4 id 6", "", "")
}
