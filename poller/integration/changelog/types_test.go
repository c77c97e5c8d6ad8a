package changelog

import (
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/typed"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// The values of every type are those of package sqlsource, in the row, in the old row and as they are joined.
func TestTypes(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		columns := typed.Columns(t, driver, db)
		typed.Create(driver, db, "types", columns)
		table, joined := silent(db, "types"), silent(db, "types")
		joined.Changes, joined.KeysOnly = "types_keys", true
		reinstall(t, table)
		install(t, joined)
		rows := typed.Fill(db, "types", columns)
		plain := lab.Silent(db, "types", "id")
		plain.Ceiling = ceiling.None{}
		want, err := lab.Fetch(t, plain, "", 1000)
		require.NoError(t, err)
		require.Len(t, want.Records, rows)
		same := func(table *changelog.Table, of func(row.Change) row.Row, skip int) {
			t.Helper()
			var got []row.Row
			changes := all(t, table)
			for _, c := range changes[skip:] {
				got = append(got, of(c))
			}
			require.Len(t, got, rows)
			for i, r := range got {
				if !want.Records[i].Equal(r) {
					require.Equal(t, lab.RowJSON(want.Records[i]), lab.RowJSON(r))
				}
				require.True(t, want.Records[i].Equal(r), "row %d: the kinds differ", i)
				for k := range r.Len() {
					require.Equal(t, want.Records[i].Columns().Type(k), r.Columns().Type(k))
				}
			}
		}
		same(table, func(c row.Change) row.Row { return c.Row }, 0)
		same(joined, func(c row.Change) row.Row { return c.Row }, 0)
		db.MustExec("DELETE FROM types")
		same(table, func(c row.Change) row.Row { return c.Old }, rows)
	})
}

// all returns all changes.
func all(t testing.TB, table *changelog.Table) (changes []row.Change) {
	t.Helper()
	var after source.Cursor
	for {
		b, err := lab.Fetch(t, table, after, 7)
		require.NoError(t, err)
		changes, after = append(changes, b.Records...), b.To
		if !b.More && b.Held == nil {
			return slices.Clip(changes)
		}
	}
}
