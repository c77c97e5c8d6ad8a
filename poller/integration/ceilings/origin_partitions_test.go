package ceilings

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Postgres gives partitions and children the alias of their table with a number, as a user may do.
func TestQueryKeyOfPartitions(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table items (id bigserial primary key, v int) partition by range (id)`)
		for i := range 3 {
			db.MustExec(fmt.Sprintf(`create table items_%d partition of items for values from (%d) to (%d)`, i+1, i*10, i*10+10))
		}
		db.MustExec(`create table parent (id bigserial primary key, v int)`)
		db.MustExec(`create table child () inherits (parent)`)
		db.MustExec(`create table ords (id bigserial primary key, v int)`)
		for _, name := range []string{"items", "parent", "ords"} {
			db.MustExec(`insert into ` + name + ` (v) select 1 from generate_series(1, 25)`)
		}
		type item struct{ ID, V int64 }
		check := func(table, text string) *sqlsource.Check {
			q := &sqlsource.Query[item]{DB: db, Select: text, Key: []string{"id"}, Table: table, Logger: slog.New(slog.DiscardHandler)}
			c, err := q.Check(t.Context(), "")
			require.NoError(t, err)
			return c
		}
		for _, name := range []string{"items", "parent"} {
			for _, text := range []string{
				`select o.id, o_1.v from ` + name + ` o join ords o_1 using (id)`,
				`select o.id, o_1.v from ords o_1 join ` + name + ` o using (id)`,
				`select id, v from ` + name + ` where id < 5`,
				`select id, v from ` + name + ` as "items_1"`,
			} {
				right := check(name, text)
				require.True(t, right.Safe(), right.String())
				require.NotContains(t, lab.OneLine(right.String()), "does not show which table", text)
				wrong := check("ords", text)
				require.False(t, wrong.Safe(), "%s\n%s", text, wrong)
			}
		}
		for _, text := range []string{
			`select t.id, t_1.v from items t join ords t_1 using (id)`,
			`select o.id, o.v from items o join (select id from ords o_1 union all select id from ords o_2) u using (id)`,
			`select id, v from (select id, v from items t_1 union all select id, v from ords t_2) t`,
		} {
			c := check("ords", text)
			require.True(t, !c.Safe() || len(c.Report.Findings) > 0 && lab.OneLine(c.String()) != "", text)
			require.Regexp(t, "UNSAFE|does not show which table", lab.OneLine(c.String()))
		}
	})
}
