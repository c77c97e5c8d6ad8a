package ceilings

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// A view is read as a table whose rows are watched: that which its key comes from.
func TestViews(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table ords (id ` + lab.IDColumn(driver) + `, customer bigint not null, v varchar(10))`)
		db.MustExec(`create table customers (id bigint primary key, name varchar(10))`)
		db.MustExec(`insert into customers values (7, 'Ada')`)
		db.MustExec(`create view plain as select * from ords`)
		db.MustExec(`create view named as select o.id as number, c.name from ords o join customers c on c.id = o.customer where o.v = 'x'`)
		db.MustExec(`create view grouped as select id, max(v) as v from ords group by id`)
		insert := `insert into ords (customer, v) values (7, 'x')`
		db.MustExec(insert)
		for view, key := range map[string]string{"plain": "id", "named": "number"} {
			table := lab.Silent(db, view, key)
			got, at := lab.ReadAll(t, table, "", 10, lab.RowJSON)
			c, err := table.Check(t.Context(), at)
			require.NoError(t, err)
			require.True(t, c.Safe(), c.String())
			require.Contains(t, lab.OneLine(c.String()), "whose rows are watched: a row that the view shows only after later rows were read is missed")
			before := len(got)
			if lab.IsPostgres(driver) || lab.IsMariaDB(driver) {
				tx := lab.Begin(t, db, insert)
				db.MustExec(insert)
				b, err := table.Fetch(t.Context(), at, 10)
				require.NoError(t, err)
				require.Empty(t, b.Records, "the transaction of a row before it has not ended")
				require.NotNil(t, b.Held)
				require.NoError(t, tx.Commit())
			} else {
				db.MustExec(insert)
				db.MustExec(insert)
			}
			got, _ = lab.ReadAll(t, table, at, 10, lab.RowJSON)
			require.Len(t, got, 2, "after %d", before)
		}
		_, err := lab.Silent(db, "grouped", "id").Fetch(t.Context(), "", 10)
		lab.RequirePermanent(t, err, "grouped is a view")
		_, err = lab.Silent(db, "named", "name").Fetch(t.Context(), "", 10)
		lab.RequirePermanent(t, err, "name")
	})
}
