package mariadb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Rows have all columns of the table, whether SELECT * shows them or not. A column may become
// visible or invisible, or be added, between two batches.
func TestInvisibleColumns(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	for _, driver := range d.Drivers() {
		db := d.Open(t, driver)
		db.MustExec("drop table if exists t")
		db.MustExec("create table t (v varchar(10), my_row_id bigint auto_increment invisible primary key, secret int invisible default 7)")
		db.MustExec("insert into t (v) values ('a'), ('b')")
		table := lab.Silent(db, "t", "my_row_id")
		got, at := lab.ReadAll(t, table, "", 1, lab.RowJSON)
		require.Equal(t, []string{`{"v":"a","my_row_id":1,"secret":7}`, `{"v":"b","my_row_id":2,"secret":7}`}, got)
		for _, step := range []struct{ alter, insert, want string }{
			{"alter table t modify secret int default 7", "insert into t (v) values ('c')", `{"v":"c","secret":7,"my_row_id":3}`},
			{"alter table t add w int default 1", "insert into t (v) values ('d')", `{"v":"d","secret":7,"w":1,"my_row_id":4}`},
			{"alter table t modify v varchar(10) invisible", "insert into t (v) values ('e')", `{"secret":7,"w":1,"v":"e","my_row_id":5}`},
			{"alter table t drop v", "insert into t (w) values (2)", `{"secret":7,"w":2,"my_row_id":6}`},
		} {
			db.MustExec(step.alter)
			db.MustExec(step.insert)
			got, at = lab.ReadAll(t, table, at, 10, lab.RowJSON)
			require.Equal(t, []string{step.want}, got)
		}
		table = lab.Silent(db, "t", "my_row_id")
		table.Columns, table.Ceiling = []string{"w"}, ceiling.None{}
		got, _ = lab.ReadAll(t, table, at, 10, lab.RowJSON)
		require.Empty(t, got)
	}
}
