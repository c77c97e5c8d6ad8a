package ceilings

import (
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A column of times without a time zone is compared with the clock of one: the session's, with a
// warning, or that which the user names. Here the writers use UTC, and the session does not.
func TestLagZone(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.SetMaxOpenConns(1) // the time zone is a setting of the connection
		set := map[string]string{"west": `set timezone = 'America/New_York'`, "east": `set timezone = 'Asia/Tokyo'`}
		names := map[string]string{"west": "America/New_York", "east": "Asia/Tokyo", "utc": "UTC"}
		typ, now, later := "timestamp", `(clock_timestamp() at time zone 'UTC' - interval '10 minutes')`, `(clock_timestamp() at time zone 'UTC' - interval '1 minute')`
		switch {
		case lab.IsMariaDB(driver):
			set = map[string]string{"west": `set time_zone = '-05:00'`, "east": `set time_zone = '+09:00'`}
			names = map[string]string{"west": "-05:00", "east": "+09:00", "utc": "+00:00"}
			typ, now, later = "datetime(6)", `utc_timestamp(6) - interval 10 minute`, `utc_timestamp(6) - interval 1 minute`
		case !lab.IsPostgres(driver):
			return
		}
		db.MustExec(`create table t (at ` + typ + ` not null, id int not null, primary key (at, id))`)
		db.MustExec(`insert into t values (` + now + `, 1), (` + later + `, 2)`)
		for session, sees := range map[string]int{"west": 0, "east": 2} {
			db.MustExec(set[session])
			table := lagging(db, "t", 5*time.Minute, "at", "id")
			got, at := lab.ReadAll(t, table, "", 10, func(r row.Row) string { return r.Text(1) })
			require.Len(t, got, sees, "rows are read hours late in the west, and too early in the east")
			c, err := table.Check(t.Context(), at)
			require.NoError(t, err)
			require.Contains(t, c.Report.Guarantee, `"at", taken for a time of day in the time zone `+names[session]+`, lies 5m0s before the database's clock`)
			require.Contains(t, lab.OneLine(c.String()), `warning "at" has no time zone, and is taken for a time of day in the session's, `+names[session]+`: if the writers use another one, rows are missed, or read hours late -> set Lag.Zone, lag=5m0s@UTC`)

			table.Ceiling = ceiling.Lag{By: 5 * time.Minute, Zone: names["utc"]}
			named := lagging(db, "t", 0, "at", "id")
			named.Ceiling = table.Ceiling
			got, at = lab.ReadAll(t, named, "", 10, func(r row.Row) string { return r.Text(1) })
			require.Equal(t, []string{"1"}, got)
			c, err = named.Check(t.Context(), at)
			require.NoError(t, err)
			require.Contains(t, c.Report.Guarantee, "in the time zone "+names["utc"])
			require.NotContains(t, c.String(), "has no time zone")
		}
		unknown := lagging(db, "t", 0, "at", "id")
		unknown.Ceiling = ceiling.Lag{By: time.Minute, Zone: "Mars/Olympus"}
		_, err := unknown.Fetch(t.Context(), "", 10)
		lab.RequirePermanent(t, err, `the database does not know the time zone "Mars/Olympus"`)
	})
}
