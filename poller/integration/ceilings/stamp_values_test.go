package ceilings

import (
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A value that is no time and comes before all times, such as a default that stands for "never", is read first, also
// where all rows have it. Reading goes on from it after a restart.
func TestStampBeforeAllTimes(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		var types []string
		var least []string
		switch {
		case lab.IsPostgres(driver):
			types, least = []string{"timestamptz", "timestamp"}, []string{"-infinity", "0044-03-15 12:00:00 BC"}
		case lab.IsMariaDB(driver):
			db.SetMaxOpenConns(1)
			db.MustExec(`set sql_mode = ''`)
			types, least = []string{"datetime(6)", "timestamp(6)"}, []string{"0000-00-00 00:00:00"}
		default:
			return // SQLite has no type of times
		}
		for _, typ := range types {
			for _, value := range least {
				db.MustExec(`drop table if exists t`)
				db.MustExec(`create table t (k ` + typ + ` not null, id int not null, n int, primary key (k, id))`)
				db.MustExec(`insert into t values ('` + value + `', 1, 1), ('` + value + `', 2, 2)`)
				c := ceiling.Stamp{Margin: time.Second, Zone: "UTC"}
				got, at := lab.ReadAll(t, stamped(db, "t", c, "k", "id"), "", 1, number)
				require.Equal(t, []string{"1", "2"}, got, typ)
				db.MustExec(`insert into t values ('2026-01-31 12:00:00', 3, 3)`)
				got, _ = lab.ReadAll(t, stamped(db, "t", c, "k", "id"), at, 1, number)
				require.Equal(t, []string{"3"}, got, typ)
			}
		}
	})
}
