package sqlsource

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// fourth is a database that the library does not know: SQLite with another syntax for names
// and placeholders, which SQLite accepts as well.
type fourth struct{ sqlite.Dialect }

func (fourth) Name() string             { return "Fourth" }
func (fourth) Quote(name string) string { return "[" + name + "]" }
func (fourth) Placeholder(n int) string { return fmt.Sprintf("?%d", n) }
func (fourth) Limit(n int) string       { return fmt.Sprintf("LIMIT %d OFFSET 0", n) }

func (fourth) Choose(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Ceiling, error) {
	return fourthWriter{}, nil
}

// fourthWriter is the ceiling of that database.
type fourthWriter struct{}

func (fourthWriter) String() string { return "fourth-writer" }
func (fourthWriter) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	t.SQL = sqlite.Dialect{}
	return sqlite.SingleWriter{}.Open(ctx, db, t)
}

// A new database needs a Dialect and no change to the library.
func TestOwnDialect(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.NCruces)
	db.MustExec(`create table orders (id integer primary key autoincrement, at text not null, note text); create unique index by_at on orders (at, id)`)
	for i := range 12 {
		db.MustExec(`insert into orders (at, note) values (?, ?)`, fmt.Sprintf("2026-01-%02d 12:00:00", i+1), fmt.Sprint(i))
	}
	for name, c := range map[string]ceiling.Ceiling{"chosen": nil, "grace": ceiling.Grace{For: time.Minute}, "stamp": ceiling.Stamp{Margin: time.Second, Zone: "UTC"}, "none": ceiling.None{}} {
		for _, key := range []string{"id", "at,id"} {
			if key != "id" && (name == "chosen" || name == "grace") || key == "id" && name == "stamp" { // these need an integer key, and that a time
				continue
			}
			table := func() *sqlsource.Table {
				return &sqlsource.Table{DB: db, Name: "orders", Key: strings.Split(key, ","), Ceiling: c, Dialect: fourth{}, Logger: lab.Silent(db, "orders").Logger}
			}
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Row]{
				Open:    func(context.Context) (source.Source[row.Row], error) { return table(), nil },
				AtLeast: 12, Text: lab.RowJSON,
			}), name)
			_, at := lab.ReadAll(t, table(), "", 5, lab.RowJSON)
			c, err := table().Check(t.Context(), at)
			require.NoError(t, err)
			require.Contains(t, c.Statement, `FROM [orders] AS t WHERE`)
			require.Contains(t, c.Statement, `?1`)
			require.Contains(t, c.Statement, ` LIMIT 1025 OFFSET 0`)
			require.Zero(t, c.Pending)
		}
	}
}
