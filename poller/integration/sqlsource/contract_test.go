package sqlsource

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

type order struct {
	ID   int64
	Note string
}

// Both kinds of source fulfil the whole contract with every driver.
func TestSQLSourceContract(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note varchar(100) not null)`)
		var want []order
		for i := range 12 {
			o := order{int64(i*i) + 1, fmt.Sprintf("note %d", i)}
			db.MustExec(fmt.Sprintf(`insert into orders values (%d, '%s')`, o.ID, o.Note))
			want = append(want, o)
		}
		if lab.IsPostgres(driver) { // the counters of the other databases follow explicit keys
			db.MustExec(`select setval(pg_get_serial_sequence('orders', 'id'), max(id)) from orders`)
		}
		other := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Where: "t.id > 0"}
		foreign, err := other.At(3)
		require.NoError(t, err)

		var rows []row.Row
		columns := row.NewColumns([]string{"id", "note"}, []row.Kind{row.Number, row.Text})
		for _, o := range want {
			r, err := row.Of(columns, o.ID, o.Note)
			require.NoError(t, err)
			rows = append(rows, r)
		}
		require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Row]{
			Open: func(context.Context) (source.Source[row.Row], error) {
				return &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}}, nil
			},
			Expected: rows, Text: lab.RowJSON, Foreign: []source.Cursor{foreign},
		}))
		require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[order]{
			Open: func(context.Context) (source.Source[order], error) {
				return &sqlsource.Query[order]{DB: db, Select: "select id, note from orders where id > 0 -- all;\n;", Key: []string{"id"}, Table: "orders"}, nil
			},
			Expected: want, Foreign: []source.Cursor{foreign},
		}))
	})
}

func TestSQLSourceColumnsChange(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		var log bytes.Buffer
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, a varchar(10), b int, d varchar(10))`)
		db.MustExec(`insert into orders (a, b, d) values ('a1', 11, 'd1'), ('a2', 12, 'd2')`)
		table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		var after source.Cursor
		next := func(want ...string) *row.Columns {
			t.Helper()
			var b source.Batch[row.Row]
			var got []string
			var err error
			// Several connections may have prepared the old statement.
			b, err = lab.Fetch(t, table, after, 10)
			require.NoError(t, err)
			for _, r := range b.Records {
				got = append(got, lab.RowJSON(r))
			}
			require.Equal(t, want, got)
			after = b.To
			return b.Records[0].Columns()
		}
		first := next(`{"id":1,"a":"a1","b":11,"d":"d1"}`, `{"id":2,"a":"a2","b":12,"d":"d2"}`)
		require.Equal(t, 1, strings.Count(log.String(), "msg=guarantee"))
		log.Reset()

		db.MustExec(`insert into orders (a, b, d) values ('a3', 13, 'd3')`)
		require.Same(t, first, next(`{"id":3,"a":"a3","b":13,"d":"d3"}`))
		require.Empty(t, log.String())

		db.MustExec(`alter table orders add c varchar(10)`)
		db.MustExec(`insert into orders (a, b, d, c) values ('a4', 14, 'd4', 'c4')`)
		require.NotSame(t, first, next(`{"id":4,"a":"a4","b":14,"d":"d4","c":"c4"}`))
		require.Contains(t, log.String(), "table=orders added=[c] removed=[] changed=[]")

		log.Reset()
		db.MustExec(`alter table orders drop column a`)
		db.MustExec(`insert into orders (b, d, c) values (15, 'd5', 'c5')`)
		next(`{"id":5,"b":15,"d":"d5","c":"c5"}`)
		require.Contains(t, log.String(), "added=[] removed=[a] changed=[]")

		log.Reset()
		db.MustExec(`alter table orders rename column d to e`)
		db.MustExec(`insert into orders (b, e, c) values (16, 'e6', 'c6')`)
		next(`{"id":6,"b":16,"e":"e6","c":"c6"}`)
		require.Contains(t, log.String(), "added=[e] removed=[d] changed=[]")
		require.Equal(t, 1, strings.Count(log.String(), "\n"))

		log.Reset()
		switch {
		case lab.IsPostgres(driver):
			db.MustExec(`alter table orders alter column b type text`)
		case lab.IsMariaDB(driver):
			db.MustExec(`alter table orders modify b varchar(10)`)
		default:
			return // SQLite cannot change a column's type
		}
		db.MustExec(`insert into orders (b, e, c) values ('17', 'e7', 'c7')`)
		next(`{"id":7,"b":"17","e":"e7","c":"c7"}`)
		require.Contains(t, log.String(), "added=[] removed=[] changed=[b]")
	})
}
