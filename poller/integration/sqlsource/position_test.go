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
