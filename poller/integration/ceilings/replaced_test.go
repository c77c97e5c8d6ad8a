package ceilings

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A view that is replaced while it is read, or one below it, can take the key from another table, whose
// rows nobody watches. Reading ends then, and does not wait for rows that the cursor has passed.
func TestReplacedViews(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		for _, name := range []string{"ords", "others"} {
			db.MustExec(`create table ` + name + ` (id ` + lab.IDColumn(driver) + `, v varchar(10))`)
		}
		replace := func(name, from string) {
			db.MustExec(`drop view if exists ` + name)
			db.MustExec(`create view ` + name + ` as select id, v from ` + from)
		}
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			db.SetMaxOpenConns(1)
		} else {
			replace = func(name, from string) {
				db.MustExec(`create or replace view ` + name + ` as select id, v from ` + from)
			}
		}
		for range 5 {
			db.MustExec(`insert into ords (v) values ('a')`)
			db.MustExec(`insert into others (v) values ('b')`)
		}
		type ord struct {
			ID int64
			V  string
		}
		for _, replaced := range []string{"plain", "inner_one"} {
			replace("plain", "ords")
			replace("inner_one", "ords")
			replace("outer_one", "inner_one")
			view := map[string]string{"plain": "plain", "inner_one": "outer_one"}[replaced]
			table := lab.Silent(db, view, "id")
			got, at := lab.ReadAll(t, table, "", 10, lab.RowJSON)
			require.Len(t, got, 5)
			query := &sqlsource.Query[ord]{DB: db, Select: "select id, v from " + view, Key: []string{"id"}, Table: "ords", Logger: slog.New(slog.DiscardHandler)}
			_, queryAt := lab.ReadAll(t, query, "", 10, func(o ord) string { return o.V })
			selected := lab.Silent(db, "ords", "id")
			selected.Select = query.Select
			_, selectedAt := lab.ReadAll(t, selected, "", 10, lab.RowJSON)

			db.MustExec(`insert into others (v) values ('new')`)
			replace(replaced, "others")
			require.NoError(t, noticed(t, table, at))
			require.ErrorIs(t, lab.Refused(t, table, at), sqlsource.ErrHistory)
			require.ErrorIs(t, lab.Refused(t, lab.Silent(db, view, "id"), at), sqlsource.ErrHistory, "after a restart, too")
			lab.RequirePermanent(t, noticed(t, query, queryAt), `the Select takes "id" from `, `others`)
			lab.RequirePermanent(t, noticed(t, selected, selectedAt), `the Select takes "id" from `, `others`)
		}
	})
}

// noticed fetches until the source notices that a view was replaced. This takes a while if no row is due. It
// returns the error, nil if the cursor moves on. No row is delivered, and AsOf is not later than the replacement.
func noticed[T any](t *testing.T, src source.Source[T], at source.Cursor) (err error) {
	t.Helper()
	replaced := time.Now()
	lab.WaitFor(t, func() bool {
		var b source.Batch[T]
		b, err = src.Fetch(t.Context(), at, 10)
		require.Empty(t, b.Records)
		require.False(t, b.AsOf.After(replaced))
		return err != nil || b.To != at
	})
	return err
}
