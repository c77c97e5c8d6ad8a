package sqlsink

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/typed"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Each type of each database arrives unchanged in a table of the same types.
func TestTypes(t *testing.T) {
	eachSink(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(string) *sqlsink.Sink[row.Row]) {
		columns := typed.Columns(t, driver, db)
		typed.Create(driver, db, "types", columns)
		typed.Create(driver, db, "copy", columns)
		rows := typed.Fill(db, "types", columns)
		s := open("copy")
		_, err := s.Load(t.Context())
		require.NoError(t, err)
		want := readAny(t, db, "types")
		require.Len(t, want, rows)
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: want}))
		got := readAny(t, db, "copy")
		require.Len(t, got, rows)
		for i, r := range got {
			for k := range r.Len() {
				if k > 0 && r.Text(k) != want[i].Text(k) || r.IsNull(k) != want[i].IsNull(k) {
					t.Errorf("%s: %.80q, want %.80q", columns[k-1].DDL, r.Text(k), want[i].Text(k))
				}
			}
			if !t.Failed() {
				require.True(t, want[i].Equal(r), "row %d: the forms differ", i)
			}
		}
	})
}

func readAny(t testing.TB, db *sqlx.DB, table string) []row.Row {
	src := lab.Silent(db, table, "id")
	src.Ceiling = ceiling.None{}
	b, err := lab.Fetch(t, src, "", 1000)
	require.NoError(t, err)
	return b.Records
}
