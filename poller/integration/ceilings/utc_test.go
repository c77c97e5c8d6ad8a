package ceilings

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A condition means the same moments whatever the session's time zone is, also where the server
// looks at it before it reads a row: in a literal, or to leave partitions out. So does that of a view. The
// session keeps its zone.
func TestConditionsAreInUTC(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		zone, set, typ := `select current_setting('TimeZone')`, `set timezone = 'Asia/Tokyo'`, "timestamptz"
		conditions := []string{`t.at < date '2026-03-01'`, `t.at < '2026-03-01'`, `t.at < timestamptz '2026-03-01'`, `t.at::date < '2026-03-01'`}
		bound, insert := `values from ('%s') to ('%s')`, `insert into p select '2026-02-28 00:00:00Z'::timestamptz + n * interval '1 hour', n from generate_series(0, 47) as n`
		switch {
		case lab.IsMariaDB(driver):
			zone, set, typ = `select @@session.time_zone`, `set time_zone = '+09:00'`, "timestamp"
			conditions = []string{`t.at < date '2026-03-01'`, `t.at < '2026-03-01'`, `t.at < timestamp '2026-03-01 00:00:00'`, `date(t.at) < '2026-03-01'`}
			insert = `insert into p select from_unixtime(1772236800 + seq * 3600), seq from seq_0_to_47`
		case !lab.IsPostgres(driver):
			return
		}
		db.SetMaxOpenConns(1) // the time zone is a setting of the connection
		if lab.IsMariaDB(driver) {
			db.MustExec(set)
			db.MustExec(`create table p (at ` + typ + ` not null, id int not null, primary key (id, at)) partition by range (unix_timestamp(at)) (
				partition a values less than (unix_timestamp('2026-03-01 00:00:00')), partition b values less than maxvalue)`)
		} else {
			db.MustExec(set)
			db.MustExec(`create table p (at ` + typ + ` not null, id int not null, primary key (id, at)) partition by range (at)`)
			for i, month := range []string{"2026-02-01", "2026-03-01"} {
				db.MustExec(fmt.Sprintf(`create table p%d partition of p for `+bound, i, month, []string{"2026-03-01", "2026-04-01"}[i]))
			}
		}
		db.MustExec(insert)
		before := ""
		require.NoError(t, db.Get(&before, zone))
		for i, where := range conditions {
			table := lab.Silent(db, "p", "id")
			table.Ceiling, table.Where = ceiling.None{}, where
			got, _ := lab.ReadAll(t, table, "", 7, lab.RowJSON)
			require.Len(t, got, 24, where)

			table = lab.Silent(db, "p", "id")
			table.Ceiling, table.Select = ceiling.None{}, `select at, id from p t where `+where
			got, _ = lab.ReadAll(t, table, "", 7, lab.RowJSON)
			require.Len(t, got, 24, where)

			if i == 0 || i == 3 { // a literal of a view has the zone of the session that created it
				db.MustExec(fmt.Sprintf(`create view v%d as select at, id from p t where %s`, i, where))
				table = lab.Silent(db, fmt.Sprintf("v%d", i), "id")
				table.Ceiling = ceiling.None{}
				got, _ = lab.ReadAll(t, table, "", 7, lab.RowJSON)
				require.Len(t, got, 24, "view with %s", where)
			}
		}
		var now string
		require.NoError(t, db.Get(&now, zone))
		require.Equal(t, before, now)
	})
}
