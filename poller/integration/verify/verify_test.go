package verify

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/verify"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func TestMain(m *testing.M) { lab.Main(m) }

// copying is a table and a directory into which it is copied.
type copying struct {
	t     *testing.T
	table *sqlsource.Table
	dir   string
	o     filesink.Options[row.Row]
}

func newCopy(t *testing.T, table *sqlsource.Table) *copying {
	return &copying{t, table, filepath.Join(t.TempDir(), "out"), filesink.Options[row.Row]{SegmentRows: 90, SegmentAge: -1, Logger: slog.New(slog.DiscardHandler)}}
}

// poller returns a pipeline, and a function that ends its use of the directory.
func (c *copying) poller() (*poller.Poller[row.Row], func()) {
	files, err := filesink.Open(c.dir, c.o)
	require.NoError(c.t, err)
	return &poller.Poller[row.Row]{Name: "copy", Source: c.settings(), Sink: files, Checkpointer: files, BatchSize: 30, Interval: 1},
		func() { assert.NoError(c.t, files.Close()) }
}

// settings returns a new table with the settings of the copy.
func (c *copying) settings() *sqlsource.Table {
	return &sqlsource.Table{DB: c.table.DB, Name: c.table.Name, Key: c.table.Key, Columns: c.table.Columns, Where: c.table.Where, MaxRowBytes: c.table.MaxRowBytes, Ceiling: c.table.Ceiling, Start: c.table.Start, Logger: c.o.Logger}
}

// drain copies the existing rows.
func (c *copying) drain() {
	c.t.Helper()
	p, end := c.poller()
	defer end()
	require.NoError(c.t, p.Drain(c.t.Context()))
}

func (c *copying) verify() verify.Report {
	c.t.Helper()
	r, err := verify.Files(c.t.Context(), c.settings(), c.dir, 0)
	require.NoError(c.t, err)
	return r
}

// finds requires these first keys, each kind as a list of words.
func (c *copying) finds(missing, extra, changed string) verify.Report {
	c.t.Helper()
	r := c.verify()
	var all [3][]string
	for _, p := range r.Parts {
		all[0], all[1], all[2] = append(all[0], p.Missing.First...), append(all[1], p.Extra.First...), append(all[2], p.Changed.First...)
	}
	require.Equal(c.t, [3]string{missing, extra, changed}, [3]string{strings.Join(all[0], " "), strings.Join(all[1], " "), strings.Join(all[2], " ")}, "%s", r)
	require.Equal(c.t, missing+extra+changed == "" && len(r.Unknown) == 0, r.Equal())
	return r
}

func (c *copying) segment(n int) string {
	c.t.Helper()
	for _, end := range []string{".jsonl", ".csv", ".jsonl.open", ".csv.open"} {
		path := filepath.Join(c.dir, fmt.Sprintf("rows-%010d%s", n, end))
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	c.t.Fatalf("no segment %d", n)
	return ""
}

// edit changes the text of a segment.
func (c *copying) edit(n int, change func(string) string) {
	c.t.Helper()
	b, err := os.ReadFile(c.segment(n))
	require.NoError(c.t, err)
	text := change(string(b))
	require.NotEqual(c.t, text, string(b))
	require.NoError(c.t, os.WriteFile(c.segment(n), []byte(text), 0o600))
}

// orders makes a table with rows 1 to n.
func orders(t *testing.T, driver dbtest.Driver, db *sqlx.DB, n int) {
	t.Helper()
	db.MustExec("CREATE TABLE orders (id " + lab.IDColumn(driver) + ", name varchar(100) NOT NULL)")
	insert(t, db, n)
}

func insert(t *testing.T, db *sqlx.DB, n int) {
	t.Helper()
	for range n / 10 {
		_, err := db.ExecContext(t.Context(), "INSERT INTO orders (name) VALUES "+strings.Repeat(",('an order')", 10)[1:])
		require.NoError(t, err)
	}
}

// Next to a running copy with writers, each comparison finds the same rows.
func TestNextToTheCopy(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		orders(t, driver, db, 0)
		c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
		p, end := c.poller()
		defer end()
		stop := lab.Start(t, p)
		writers := 3
		if driver == dbtest.Modernc || driver == dbtest.NCruces {
			writers = 1
		}
		var writing sync.WaitGroup
		for range writers {
			writing.Go(func() {
				for range 40 {
					if _, err := db.Exec("INSERT INTO orders (name) VALUES " + strings.Repeat(",('an order')", 10)[1:]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all := int64(writers * 400)
		lab.WaitFor(t, func() bool {
			require.True(t, c.verify().Equal())
			return p.Status().Records == all
		})
		writing.Wait()
		require.NoError(t, stop())
		r := c.verify()
		require.True(t, r.Equal(), "%s", r)
		require.Equal(t, all, r.Parts[0].Got())
		require.Contains(t, r.String(), "orders: EQUAL. All "+fmt.Sprint(all)+" rows are the same.\n")
	})
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		orders(t, driver, db, 500)
		for _, format := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row]()} {
			c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
			c.o.Encoder = format
			c.drain()
			c.finds("", "", "")

			// Updates and deletes, a row that was lost, and one that was damaged.
			db.MustExec("UPDATE orders SET name = 'new' WHERE id IN (7, 500)")
			db.MustExec("DELETE FROM orders WHERE id IN (1, 250)")
			c.edit(4, func(s string) string {
				lines := strings.SplitAfter(s, "\n")
				return strings.Join(slices.DeleteFunc(lines, func(l string) bool {
					return strings.HasPrefix(l, `{"id":333,`) || strings.HasPrefix(l, "333,")
				}), "")
			})
			c.edit(5, func(s string) string { return strings.Replace(s, "450", "4500", 1) })
			r := c.finds("333 450", "1 250 4500", "7 500")
			require.EqualValues(t, 2, r.Missing())
			require.Contains(t, r.String(), "orders: ROWS ARE MISSING. The table has 498 rows, the files have 499.\n")

			db.MustExec("DELETE FROM orders WHERE id IN (333, 450)")
			require.Contains(t, c.finds("", "1 250 4500", "7 500").String(), "orders: DIFFERENT. No key is missing.")
			db.MustExec("INSERT INTO orders (id, name) VALUES (1, 'an order'), (250, 'an order'), (333, 'an order'), (450, 'an order')")
			db.MustExec("UPDATE orders SET name = 'an order'")
		}
	})
}

// Segments that consumers took, and a copy that was rewound.
func TestPartsOfACopy(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		orders(t, driver, db, 500)
		c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
		c.drain()
		files, err := filesink.Open(c.dir, c.o)
		require.NoError(t, err)
		to, err := c.settings().At("230")
		require.NoError(t, err)
		require.NoError(t, files.Rewind(to))
		require.NoError(t, files.Close())
		rewound := "the copy was rewound before segment 7: the rows from there to the cursor at that time are in two files, and are compared twice"
		require.Equal(t, []string{rewound}, c.finds("", "", "").Notes)
		c.drain()
		r := c.finds("", "", "")
		require.Len(t, r.Parts, 2)
		require.EqualValues(t, 270, r.Parts[1].Got())
		require.Equal(t, []string{rewound}, r.Notes)
		c.edit(8, func(s string) string { return strings.Replace(s, "order", "0rder", 1) })
		c.finds("", "", "321")

		for _, n := range []int{1, 2, 4, 9} {
			require.NoError(t, os.Remove(c.segment(n)))
		}
		r = c.finds("", "", "321")
		require.Len(t, r.Parts, 3)
		require.Contains(t, r.String(), "note: the segments before rows-0000000003.jsonl are not in the directory: the rows up to the key 181 are not compared\n")
		require.Contains(t, r.String(), "note: the segments after rows-0000000008.jsonl are not in the directory: the rows in them are not compared\n")
		for _, n := range []int{3, 5, 6, 7, 8} {
			require.NoError(t, os.Remove(c.segment(n)))
		}
		r = c.finds("", "", "")
		require.Empty(t, r.Parts)
		require.Contains(t, r.String(), "orders: NOTHING TO COMPARE.")
		require.Contains(t, r.String(), "note: the segments 1 to 6 are not in the directory: the rows in them are not compared\n")
	})
}

// Columns that were added or dropped since.
func TestColumnsChanged(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		orders(t, driver, db, 150)
		c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
		c.drain()
		db.MustExec("ALTER TABLE orders ADD COLUMN total bigint DEFAULT 7")
		insert(t, db, 50)
		c.drain()
		require.Len(t, c.finds("", "", "").Parts, 2)
		db.MustExec("DELETE FROM orders WHERE id = 20")
		db.MustExec("UPDATE orders SET total = 8 WHERE id IN (30, 180)")
		c.finds("", "20", "180")

		db.MustExec("ALTER TABLE orders DROP COLUMN total")
		r := c.finds("", "20", "")
		require.Equal(t, []string{`rows-0000000003.jsonl has columns that the table does not have: ["total"]`}, r.Unknown)
		require.False(t, r.Equal())
	})
}

// The comparison defines no order: it uses the database's, also where many
// rows in a row differ.
func TestKeysOfAllOrders(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		stamp, binary := "timestamp(6)", "varbinary(20)"
		if lab.IsPostgres(driver) {
			stamp, binary = "timestamptz", "bytea"
		}
		for i, key := range []struct{ types, values string }{
			{"varchar(100)", "'L-N'"}, // upper and lower case, and accents
			{"numeric(30,10)", "N.N"},
			{stamp, "'2026-01-31 12:00:00.1N'"},
			{binary, "'aN'"},
			{"varchar(20), bigint", "'L,\"', N"},
		} {
			name := fmt.Sprintf("keys_%d", i)
			types := strings.Split(key.types, ", ")
			columns := []string{"a", "b"}[:len(types)]
			definition := "a " + types[0] + " NOT NULL"
			if len(types) > 1 {
				definition += ", b " + types[1] + " NOT NULL"
			}
			db.MustExec("CREATE TABLE " + name + " (" + definition + ", note varchar(10), PRIMARY KEY (" + strings.Join(columns, ", ") + "))")
			add := func(from, to int) {
				for n := from; n < to; n++ {
					values := strings.NewReplacer("L", string([]rune("aBcDéÉ")[n%6]), "N", fmt.Sprint(1000+n*37%150)).Replace(key.values)
					db.MustExec("INSERT INTO " + name + " VALUES (" + values + ", 'x')")
				}
			}
			add(0, 100)
			c := newCopy(t, &sqlsource.Table{DB: db, Name: name, Key: columns, Ceiling: ceiling.None{}})
			c.drain()
			c.finds("", "", "")
			files, err := filesink.Open(c.dir, c.o)
			require.NoError(t, err)
			at, err := c.settings().At()
			require.NoError(t, err)
			require.NoError(t, files.Rewind(at))
			require.NoError(t, files.Close())
			c.drain()
			r := c.finds("", "", "")
			require.Len(t, r.Parts, 2, "%s: %s", key.types, r)

			add(100, 150) // between the others: late rows
			missed := c.verify()
			require.Positive(t, missed.Missing(), "%s: %s", key.types, missed)
			db.MustExec("DELETE FROM " + name)
			missed = c.verify()
			require.Zero(t, missed.Missing())
			require.Equal(t, []int64{100, 100}, []int64{missed.Parts[0].Extra.Records, missed.Parts[1].Extra.Records})
		}
	})
}

func TestSettingsOfTheCopy(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	orders(t, dbtest.NCruces, db, 100)

	// A start after a key, and after the existing rows.
	c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
	at, err := c.table.At(40)
	require.NoError(t, err)
	c.table.Start = at
	c.drain()
	require.EqualValues(t, 60, c.finds("", "", "").Parts[0].Got())
	c = newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Start: sqlsource.Latest})
	c.drain()
	c.finds("", "", "")
	insert(t, db, 20)
	c.drain()
	require.EqualValues(t, 19, c.finds("", "", "").Parts[0].Got(), "without the first one")

	// A condition, other columns, and the key not among them.
	c = newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Where: "id % 2 = 0", Columns: []string{"id"}})
	c.drain()
	require.EqualValues(t, 60, c.finds("", "", "").Parts[0].Got())
	c = newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Columns: []string{"name"}})
	c.drain()
	_, err = verify.Files(t.Context(), c.settings(), c.dir, 0)
	require.ErrorContains(t, err, `verify: rows-0000000001.jsonl: no record has the columns ["id"], which are the key`)
	require.NoError(t, context.Cause(t.Context()))

	// No copy, an empty one, and a cursor without rows.
	c = newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
	_, err = verify.Files(t.Context(), c.settings(), c.dir, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, end := c.poller()
	end()
	require.Contains(t, c.finds("", "", "").String(), "orders: NOTHING TO COMPARE.")
	files, err := filesink.Open(c.dir, c.o)
	require.NoError(t, err)
	at, err = c.settings().At(3)
	require.NoError(t, err)
	require.NoError(t, files.Save(t.Context(), "", at))
	require.NoError(t, files.Close())
	c.finds("1 2 3", "", "")

	// A database that does not answer.
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = verify.Files(stopped, c.settings(), c.dir, 0)
	require.ErrorIs(t, err, context.Canceled)
}
