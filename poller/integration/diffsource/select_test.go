package diffsource

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A SELECT under a name that is no table is refused with words that say what to do.
func TestSelectUnderALabel(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key, n int)`)
		db.MustExec(`insert into t values (1, 1), (2, 2), (3, 3)`)
		names := []string{"label", "no.such"}
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			names = names[:1] // SQLite says itself that it has no such database
		}
		for _, name := range names {
			s := open(t, db, t.TempDir(), name, "id")
			s.Table.Select = "select id, n from t where n > 0"
			_, err := s.Fetch(t.Context(), begun(t, s), 2)
			lab.RequirePermanent(t, err, "the Select takes \"id\" from ", "set Table to the table that has the key")
			read := table(db, name, "id")
			read.Select, read.Ceiling = s.Table.Select, ceiling.None{}
			_, err = read.Fetch(t.Context(), "", 2)
			lab.RequirePermanent(t, err, "the Select takes \"id\" from ", "set Table to the table that has the key")
		}
	})
}
