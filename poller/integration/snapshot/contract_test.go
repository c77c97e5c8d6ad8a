package snapshot

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A snapshot fulfils the whole contract with every driver: a table is read by its key, a view by one
// statement, and many tables, of which some are empty. One row is too large.
func TestSnapshotContract(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note text not null)`)
		db.MustExec(`create table vacant (id ` + lab.IDColumn(driver) + `)`)
		db.MustExec(`create view both_kinds as select id, note from orders`)
		db.MustExec(`create table plain (a int, note varchar(100))`)
		var want []string
		for i := range 12 {
			note := fmt.Sprintf("note %d", i)
			if i == 7 {
				note = strings.Repeat("x", 2000)
			} else {
				want = append(want, fmt.Sprintf(`{"id":%d,"note":"%s"}`, i*i+1, note))
			}
			db.MustExec(fmt.Sprintf(`insert into orders values (%d, '%s')`, i*i+1, note))
		}
		db.MustExec(`insert into plain values (1, 'a'), (1, 'a'), (null, null)`)
		foreign, err := lab.Fetch(t, rowsOf(t, db, snapshot.Table{Name: "plain"}), "", 1)
		require.NoError(t, err)

		for _, table := range []snapshot.Table{{Name: "orders"}, {Name: "both_kinds"}, {Name: "both_kinds", Key: []string{"id"}}, {Name: "x", Select: "select id, note from orders -- all"}} {
			var expected []row.Row
			require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Row]{
				Open: func(context.Context) (source.Source[row.Row], error) {
					r := rowsOf(t, db, table)
					r.MaxRowBytes = 1000
					return r, nil
				},
				Expected: expected, AtLeast: len(want), Bad: 1, Text: lab.RowJSON, Foreign: []source.Cursor{foreign.To},
			}), "%+v", table)
			all := rowsOf(t, db, table)
			got, _ := lab.ReadAll(t, all, "", 5, lab.RowJSON)
			require.Len(t, got, 12)
			require.Subset(t, got, want)
		}
		require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[row.Change]{
			Open: func(context.Context) (source.Source[row.Change], error) {
				c := changesOf(t, db, "vacant", "orders", "plain", "both_kinds")
				c.MaxRowBytes = 1000
				return c, nil
			},
			AtLeast: 25, Bad: 2, Text: changeJSON,
		}))
	})
}
