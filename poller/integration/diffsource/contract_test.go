package diffsource

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// open returns a source of the changes of a table, with its state in a directory.
func open(t testing.TB, db *sqlx.DB, dir, name string, key ...string) *diffsource.Source {
	s := &diffsource.Source{Dir: dir,
		Table: &sqlsource.Table{DB: db, Name: name, Key: key, Logger: slog.New(slog.DiscardHandler)}}
	t.Cleanup(func() { s.Close() })
	return s
}

// begun returns the cursor of the first Fetch, which delivers nothing.
func begun(t *testing.T, s *diffsource.Source) source.Cursor {
	t.Helper()
	b, err := s.Fetch(t.Context(), "", 1)
	require.NoError(t, err)
	require.Empty(t, b.Records)
	require.True(t, b.More)
	return b.To
}

func text(c row.Change) string {
	b, err := c.AppendJSON(nil)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// changes reads until a pass is complete, and returns the changes and the cursor.
func changes(t *testing.T, s source.Source[row.Change], after source.Cursor, limit int) ([]string, source.Cursor) {
	t.Helper()
	return lab.ReadAll(t, s, after, limit, text)
}

func TestContract(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note varchar(100) not null)`)
		for i := range 12 {
			db.MustExec(fmt.Sprintf(`insert into orders values (%d, 'note %d')`, i*i+1, i))
		}
		dir := t.TempDir()
		other := open(t, db, t.TempDir(), "orders", "note")
		_, foreign := changes(t, other, "", 5)
		var last *diffsource.Source
		reopen := func(context.Context) (source.Source[row.Change], error) {
			if last != nil {
				require.NoError(t, last.Close())
			}
			last = open(t, db, dir, "orders", "id")
			last.Every = time.Hour
			return last, nil
		}
		o := sourcetest.Options[row.Change]{Open: reopen, AtLeast: 12, Text: text, Foreign: []source.Cursor{foreign}}
		require.NoError(t, sourcetest.TestSource(t.Context(), o))

		// A pass with inserts, updates and deletes is a source, too.
		src, err := reopen(t.Context())
		require.NoError(t, err)
		_, o.Start = changes(t, src, "", 1000)
		db.MustExec(`insert into orders values (3, 'new'), (1000, 'last')`)
		db.MustExec(`update orders set note = 'changed' where id in (2, 10)`)
		db.MustExec(`delete from orders where id in (1, 5, 122)`)
		last.Close()
		last = nil
		o.Open = func(ctx context.Context) (source.Source[row.Change], error) {
			src, err := reopen(ctx)
			last.Every = 0
			return src, err
		}
		o.AtLeast = 7
		require.NoError(t, sourcetest.TestSource(t.Context(), o))
		got, end := changes(t, last, o.Start, 3)
		require.Equal(t, []string{
			`{"op":"delete","table":"orders","key":{"id":1}}`,
			`{"op":"update","table":"orders","key":{"id":2},"row":{"id":2,"note":"changed"}}`,
			`{"op":"insert","table":"orders","key":{"id":3},"row":{"id":3,"note":"new"}}`,
			`{"op":"delete","table":"orders","key":{"id":5}}`,
			`{"op":"update","table":"orders","key":{"id":10},"row":{"id":10,"note":"changed"}}`,
			`{"op":"delete","table":"orders","key":{"id":122}}`,
			`{"op":"insert","table":"orders","key":{"id":1000},"row":{"id":1000,"note":"last"}}`,
		}, got)
		got, same := changes(t, last, end, 3)
		require.Empty(t, got)
		require.Equal(t, end, same)
	})
}
