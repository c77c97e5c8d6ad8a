package sqlsource

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
)

// A batch reports its position, its guarantee and the number of rows that can follow.
func TestBatchSaysWhereItStands(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note varchar(10))`)
		for i := range 10 {
			db.MustExec(fmt.Sprintf(`insert into orders (note) values ('%d')`, i))
		}
		table := lab.Silent(db, "orders", "id")
		var promised *source.Guarantee
		at := source.Cursor("")
		for _, want := range []struct {
			position string
			pending  int64
		}{{"id 4", 6}, {"id 8", 2}, {"id 10", 0}} {
			b, err := lab.Fetch(t, table, at, 4)
			require.NoError(t, err)
			require.Equal(t, want.position, b.Position)
			require.Equal(t, want.position, table.Position(b.To))
			require.Equal(t, want.pending, b.Pending)
			require.NotEmpty(t, b.Guarantee.Text)
			require.False(t, b.Guarantee.Lossy)
			if promised != nil {
				require.Same(t, promised, b.Guarantee, "all batches share the same value")
			}
			promised, at = b.Guarantee, b.To
		}
	})
}

// Pending is never less than the rows that follow, with keys below 1 too.
func TestPendingIsAnUpperBound(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, note varchar(10))`)
		for i := range 3 {
			db.MustExec(fmt.Sprintf(`insert into orders (note) values ('%d')`, i))
		}
		db.MustExec(`insert into orders (id, note) values (-8, 'a'), (-7, 'b'), (-6, 'c'), (-1, 'd')`)
		table := lab.Silent(db, "orders", "id")
		at, left := source.Cursor(""), int64(7)
		for _, want := range []int64{10, 4, 1, 0} { // after -7, -1, 2, 3
			b, err := lab.Fetch(t, table, at, 2)
			require.NoError(t, err)
			left -= int64(len(b.Records))
			require.Equal(t, want, b.Pending, "after %s", b.Position)
			require.GreaterOrEqual(t, b.Pending, left)
			at = b.To
		}
	})
}

// Pending falls to 0 when the rows after the cursor were deleted.
func TestPendingOfDeletedRows(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec("create table deleted (id " + lab.IDColumn(driver) + ", v int)")
		for range 6 {
			db.MustExec("insert into deleted (v) values (1)")
		}
		table := lab.Silent(db, "deleted", "id")
		b, err := lab.Fetch(t, table, "", 3)
		require.NoError(t, err)
		require.Len(t, b.Records, 3)
		db.MustExec("delete from deleted where id > 3")
		for range 2 {
			b, err = lab.Fetch(t, table, b.To, 3)
			require.NoError(t, err)
		}
		require.Empty(t, b.Records)
		if lab.IsMariaDB(driver) {
			require.Zero(t, b.Pending)
		}
	})
}
