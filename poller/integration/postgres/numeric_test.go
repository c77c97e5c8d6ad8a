package postgres

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A key of numeric without a fraction, which a sequence draws, is as good as a bigint: migrations
// from other databases make such keys.
func TestLockFenceOfNumeric(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create sequence s`)
		for _, typ := range []string{"numeric(19,0)", "numeric(38)", "numeric(9,0)"} {
			db.MustExec(`drop table if exists orders`)
			db.MustExec(`alter sequence s restart`)
			db.MustExec(`create table orders (id ` + typ + ` primary key default nextval('s'), v text)`)
			db.MustExec(`insert into orders (v) select 'v' from generate_series(1, 1200)`)
			table := lab.Silent(db, "orders", "id")
			got, at := lab.ReadAll(t, table, "", 500, lab.RowJSON)
			require.Len(t, got, 1200)
			tx := lab.Begin(t, db, `insert into orders (v) values ('late')`)
			db.MustExec(`insert into orders (v) values ('early')`)
			got = nil
			at, held := lab.PollOnce(t, table, at, &got)
			require.Empty(t, got)
			require.NotNil(t, held)
			require.NoError(t, tx.Commit())
			rest, _ := lab.ReadAll(t, table, at, 10, lab.RowJSON)
			require.Equal(t, []string{`{"id":1201,"v":"late"}`, `{"id":1202,"v":"early"}`}, rest)
			c, err := lab.Silent(db, "orders", "id").Check(t.Context(), at)
			require.NoError(t, err)
			require.True(t, c.Safe(), c.String())
		}
		for _, typ := range []string{"numeric", "numeric(10,2)", "numeric(10,-2)"} {
			db.MustExec(`drop table if exists orders`)
			db.MustExec(`create table orders (id ` + typ + ` primary key default nextval('s'), v text)`)
			_, err := lab.Silent(db, "orders", "id").Fetch(t.Context(), "", 10)
			lab.RequirePermanent(t, err, "rows do not commit in the order of its values")
			require.ErrorAs(t, err, new(*ceiling.UnsafeError))
		}
	})
}
