package survey

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/recommend"
)

// A role that lacks SELECT is told the statements that give it, and they do.
func TestRoleWithoutRights(t *testing.T) {
	db := dbtest.StartPostgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.SetMaxOpenConns(1) // SET ROLE is of one session
	db.MustExec(`CREATE ROLE "a plain role"; CREATE SCHEMA hidden; CREATE TABLE hidden.prices (id int PRIMARY KEY); CREATE TABLE "two
		lines" (id int PRIMARY KEY)`)
	db.MustExec(`SET ROLE "a plain role"`)

	tables, err := recommend.Tables(t.Context(), db, "")
	require.NoError(t, err)
	require.Len(t, tables, 2)
	require.NotContains(t, recommend.Text(tables), "two\n", "each table has one line")
	for _, table := range tables {
		text := table.String()
		require.NotContains(t, text, "SQLSTATE")
		require.Contains(t, text, "the role may not read it")
		m := table.Means[0]
		require.False(t, m.Allowed)
		require.NotEmpty(t, m.Script)
		db.MustExec(`RESET ROLE`)
		for _, statement := range m.Script {
			db.MustExec(statement)
		}
		db.MustExec(`SET ROLE "a plain role"`)
	}
	tables, err = recommend.Tables(t.Context(), db, "")
	require.NoError(t, err)
	for _, table := range tables {
		require.True(t, table.Means[0].Plain(), "%s", table)
		require.Equal(t, "xmin scan", table.Means[0].Name)
	}
}
