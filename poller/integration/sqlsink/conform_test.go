package sqlsink

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// constructors are the sinks of rows.
var constructors = map[string]func(*sqlx.DB, string, string, sqlsink.Options) (*sqlsink.Sink[row.Row], error){
	"insert": sqlsink.Insert,
	"upsert": sqlsink.Upsert,
}

// eachSink runs a test with each sink of rows and each driver, in a new database.
func eachSink(t *testing.T, f func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(table string) *sqlsink.Sink[row.Row])) {
	t.Parallel()
	for name, construct := range constructors {
		t.Run(name, func(t *testing.T) {
			lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
				f(t, driver, db, func(table string) *sqlsink.Sink[row.Row] {
					s, err := construct(db, "orders", table, sqlsink.Options{})
					require.NoError(t, err)
					return s
				})
			})
		})
	}
}

var orderColumns = row.NewColumns([]string{"id", "name"}, nil)

func order(t testing.TB, id int, name any) row.Row {
	r, err := row.Of(orderColumns, int64(id), name)
	require.NoError(t, err)
	return r
}

// read returns the rows of a table with the columns id and name.
func read(ctx context.Context, db *sqlx.DB, table string) ([]row.Row, error) {
	b := row.NewBuilder(row.NewColumns([]string{"id", "name"}, []row.Kind{row.Number, row.Text}), 100)
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		err := rows.Scan(b.Dest()...)
		b.Add()
		return err
	}, "SELECT id, name FROM "+table+" ORDER BY id")
	return b.Rows(), err
}

func names(r row.Row) string { return r.Text(0) + " " + r.Text(1) }

func TestConformance(t *testing.T) {
	eachSink(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(string) *sqlsink.Sink[row.Row]) {
		db.MustExec("CREATE TABLE orders (id " + lab.IDColumn(driver) + ", name VARCHAR(20), CHECK (name <> 'poison'))")
		require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[row.Row]{
			Open: func(context.Context) (sinktest.Opened[row.Row], error) {
				s := open("orders")
				return sinktest.Opened[row.Row]{Sink: s, Checkpointer: s}, nil
			},
			Read:   func(ctx context.Context) ([]row.Row, error) { return read(ctx, db, "orders") },
			Record: func(i int) row.Row { return order(t, i, strings.Repeat("x", i%5)) },
			Poison: func() row.Row { return order(t, 1_000_000, "poison") },
			Text:   names,
		}))
	})
}

// The methods of a checkpointer are the same in each sink.
func TestCheckpointer(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		open := func() *sqlsink.Sink[row.Change] { return applying(t, db) }
		require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
			Open:   func(context.Context) (pollertest.Opened, error) { return pollertest.Opened{Checkpointer: open()}, nil },
			Rewind: func(ctx context.Context, to source.Cursor) error { return open().Rewind(ctx, to) },
		}))
	})
}
