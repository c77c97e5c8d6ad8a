package poolers

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Through a pooler a condition is in UTC, whichever session of the server runs the statement, and the
// pooler's other clients keep their time zone.
func TestConditionsAreInUTC(t *testing.T) {
	server := dbtest.Postgres(t)
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			direct := server.NewDatabase(t)
			direct.Open(t, dbtest.PGX).MustExec(fmt.Sprintf(`alter database %q set timezone = 'Asia/Tokyo'`, direct.Name()))
			pooled := direct.WithAddr(dbtest.StartPgBouncer(t, server, mode).Addr())
			other := pooled.Open(t, dbtest.PGX)
			db := direct.Open(t, dbtest.PGX)
			db.MustExec(`create table p (at timestamptz not null, id bigserial, primary key (at, id)) partition by range (at)`)
			db.MustExec(`create index on p (id)`)
			db.MustExec(`create table p1 partition of p for values from ('2026-02-01') to ('2026-03-01')`)
			db.MustExec(`create table p2 partition of p for values from ('2026-03-01') to ('2026-04-01')`)
			db.MustExec(`insert into p (at) select '2026-02-28 00:00:00Z'::timestamptz + n * interval '1 hour' from generate_series(0, 47) as n`)
			for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
				for _, where := range []string{`t.at < date '2026-03-01'`, `t.at < '2026-03-01'`} {
					table := lab.Silent(pooled.Open(t, driver), "p", "id")
					table.Where = where
					got, at := lab.ReadAll(t, table, "", 5, func(r row.Row) string { return r.Text(1) })
					require.Len(t, got, 24, "%s %s", driver, where)
					for range 6 {
						_, err := table.Fetch(t.Context(), at, 5)
						require.NoError(t, err)
						var zone string
						require.NoError(t, other.Get(&zone, `select current_setting('TimeZone')`))
						require.Equal(t, "Asia/Tokyo", zone)
					}
				}
			}
		})
	}
}
