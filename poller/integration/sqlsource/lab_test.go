package sqlsource

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	identity  = lab.Identity
	waitLimit = lab.WaitLimit
)

var (
	begin              = lab.Begin
	databaseFor        = lab.DatabaseFor
	eachDriver         = lab.EachDriver
	eachPostgresDriver = lab.EachPostgresDriver
	idColumn           = lab.IDColumn
	isMariaDB          = lab.IsMariaDB
	isPostgres         = lab.IsPostgres
	ordersOf           = lab.OrdersOf
	requirePermanent   = lab.RequirePermanent
	rowJSON            = lab.RowJSON
	silent             = lab.Silent
	waitFor            = lab.WaitFor
	oneLine            = lab.OneLine
)

func fetch[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int) (source.Batch[T], error) {
	tb.Helper()
	return lab.Fetch(tb, src, after, limit)
}

func readAll[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int, text func(T) string) ([]string, source.Cursor) {
	tb.Helper()
	return lab.ReadAll(tb, src, after, limit, text)
}

// reading reads the table orders batch by batch and keeps the cursor.
type reading struct {
	t     *testing.T
	table *sqlsource.Table
	at    source.Cursor
}

func follow(t *testing.T, db *sqlx.DB, key ...string) *reading {
	return &reading{t: t, table: silent(db, "orders", key...)}
}

// next returns the first column of the rows that are available now.
func (r *reading) next() (ids []string) {
	r.t.Helper()
	r.at, _ = lab.PollOnce(r.t, r.table, r.at, &ids)
	return ids
}
