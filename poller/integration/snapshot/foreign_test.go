package snapshot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A foreign table, and a table with a foreign partition, are read, and the guarantee names them: they are not part of the moment.
func TestForeignTables(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		if _, err := db.Exec(`create extension file_fdw`); err != nil {
			const missing = "the server has no file_fdw: install Debian's package postgresql, which has contrib"
			if os.Getenv("CI") == "true" {
				t.Fatal(missing)
			}
			t.Skip(missing)
		}
		dir, err := os.MkdirTemp("", "foreign")
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // the server may run as another user
		file := filepath.Join(dir, "rows.csv")
		require.NoError(t, os.WriteFile(file, []byte("1,a\n1,b\n"), 0o644)) //nolint:gosec // the same
		db.MustExec(`create server files foreign data wrapper file_fdw`)
		db.MustExec(`create foreign table f (id int, note text) server files options (filename '` + file + `', format 'csv')`)
		db.MustExec(`create table parts (id int, note text) partition by list (id)`)
		db.MustExec(`create foreign table part partition of parts for values in (1) server files options (filename '` + file + `', format 'csv')`)
		db.MustExec(`create table plain (id int primary key)`)
		db.MustExec(`insert into plain values (1)`)
		c := changesOf(t, db, "f", "parts", "plain")
		b, err := lab.Fetch(t, c, "", 10)
		require.NoError(t, err)
		require.Contains(t, b.Guarantee.Text, "are read as they are when it is their turn: f (foreign), parts (foreign)")
		require.NotContains(t, b.Guarantee.Text, "plain")
		got, _ := lab.ReadAll(t, c, "", 10, func(c row.Change) string { return c.Table })
		require.Equal(t, []string{"public.f", "public.f", "public.parts", "public.parts", "public.plain"}, got)
	})
}
