package ceilings

import (
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// The key of a Query must be that of its Table: a row that is added late to another table would be
// missed.
func TestQueryKeyOfAnotherTable(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		id := lab.IDColumn(driver)
		db.MustExec(`create table ords (id ` + id + `, v int)`)
		db.MustExec(`create table items (id ` + id + `, ord bigint not null)`)
		db.MustExec(`create table ` + odd(driver) + ` (id ` + id + `, v int)`)
		for range 5 {
			db.MustExec(`insert into ords (v) values (1)`)
			db.MustExec(`insert into items (ord) values (1)`)
			db.MustExec(`insert into ` + odd(driver) + ` (v) values (1)`)
		}
		type item struct{ ID, Ord int64 }
		query := func(table, text string) *sqlsource.Query[item] {
			return &sqlsource.Query[item]{DB: db, Select: text, Key: []string{"id"}, Table: table, Logger: slog.New(slog.DiscardHandler)}
		}
		const join = ` from items i join ords o on o.id = i.ord`
		for _, wrong := range []*sqlsource.Query[item]{
			query("ords", `select i.id, i.ord`+join),
			query("ords", `select i.id, o.id as ord`+join+` where o.v > 0`),
			query("items", `select o.id, i.ord`+join),
			query("items", `select id, v as ord from ords`),
			query("items", `select id, v as ord from `+odd(driver)),
			query("ords", `select o.id, o_1.id as ord from items o join ords o_1 on o_1.id = o.ord`),
			query("ords", `select t.id, t_1.id as ord from ords t_1 join items t on t_1.id = t.ord`),
		} {
			table := lab.Silent(db, wrong.Table, "id")
			table.Select = wrong.Select
			for _, fetch := range []func() error{
				func() error { _, err := lab.Fetch(t, wrong, "", 10); return err },
				func() error { _, err := lab.Fetch(t, table, "", 10); return err },
			} {
				lab.RequirePermanent(t, fetch(), "the Select takes \"id\" from ", "whose rows are watched", "set Table to the table that has the key")
			}
			c, err := wrong.Check(t.Context(), "")
			require.NoError(t, err)
			require.False(t, c.Safe(), c.String())
			c, err = table.Check(t.Context(), "")
			require.NoError(t, err)
			require.False(t, c.Safe(), c.String())
		}
		for _, right := range []*sqlsource.Query[item]{
			query("items", `select i.id, i.ord`+join),
			query("items", `select id, ord from items where ord > 0`),
			query("items", `select i.id, i.ord from ords o join items i on o.id = i.ord where o.v = 1`),
			query(`"Odd Name"`, `select x.id, x.v as ord from `+odd(driver)+` x`),
		} {
			b, err := lab.Fetch(t, right, "", 10)
			require.NoError(t, err)
			require.Len(t, b.Records, 5)
			c, err := right.Check(t.Context(), b.To)
			require.NoError(t, err)
			require.True(t, c.Safe(), c.String())
			require.NotContains(t, c.String(), "does not show which table")
		}
		for _, hidden := range []string{
			`select a.id, b.id as ord from (select o.id, o.ord from items o) a join (select o.id from ords o) b on b.id = a.ord`,
			`select a.id, b.id as ord from (select o.id from ords o) b join (select o.id, o.ord from items o) a on b.id = a.ord`,
		} {
			c, err := query("ords", hidden).Check(t.Context(), "")
			require.NoError(t, err)
			if lab.IsMariaDB(driver) { // it writes two tables with one alias alike
				require.Contains(t, lab.OneLine(c.String()), "does not show which table")
			} else {
				require.False(t, c.Safe(), c.String())
			}
		}
		hidden := query("items", `select id, max(ord) as ord from items group by id`)
		b, err := lab.Fetch(t, hidden, "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 5)
	})
}

// odd is a table whose name must be quoted.
func odd(driver dbtest.Driver) string {
	if lab.IsMariaDB(driver) {
		return "`Odd Name`"
	}
	return `"Odd Name"`
}
