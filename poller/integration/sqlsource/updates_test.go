package sqlsource

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// A key called updated_at asks for changes of rows. The verdict, the guarantee and the findings
// say whether they are read, and an UPDATE shows that they are right.
func TestCheckSaysWhetherUpdatesAreRead(t *testing.T) {
	const (
		insertsOnly = `SAFE for inserts only. No inserted row is missed with the ceiling %, but updates can be: nothing is known to set "updated_at" at each UPDATE`
		safe        = `SAFE. No row is missed with the ceiling %`
		lossy       = `LOSSY. Rows can be missed with the ceiling %, which was chosen explicitly`
		unchanged   = `a row is not read again after an UPDATE that leaves its key unchanged`
		pgStamp     = `create table orders (id bigint primary key, updated_at timestamptz not null default clock_timestamp(), v text); create index on orders (updated_at, id);`
		pgTrigger   = `create function set_it() returns trigger language plpgsql as $$ BEGIN NEW."updated_at" := pg_catalog.clock_timestamp(); RETURN NEW; END $$;`
		liteStamp   = `create table orders (id integer primary key, updated_at integer not null default (strftime('%s')), v text); create unique index i on orders (updated_at, id);`
	)
	for name, c := range map[string]struct {
		driver    dbtest.Driver
		table     string
		key       string
		ceiling   ceiling.Ceiling
		verdict   string
		guarantee string
		read      bool // the UPDATE is read
	}{
		"postgres, a default":              {dbtest.PGX, pgStamp, "updated_at, id", postgres.Stamp{}, insertsOnly, "its later changes are not read", false},
		"postgres, a trigger for INSERT":   {dbtest.PGX, pgStamp + pgTrigger + `create trigger z before insert on orders for each row execute function set_it();`, "updated_at, id", postgres.Stamp{}, insertsOnly, "its later changes are not read", false},
		"postgres, a trigger for both":     {dbtest.PGX, pgStamp + pgTrigger + `create trigger z before insert or update on orders for each row execute function set_it();`, "updated_at, id", postgres.Stamp{}, safe, "its latest version again after each change", true},
		"postgres, _tx before updated_at":  {dbtest.PGX, strings.Replace(pgStamp, "v text", "v text, _tx xid8 not null default pg_current_xact_id()", 1), "_tx, updated_at, id", nil, insertsOnly, "its later changes are not read", false},
		"postgres, _tx alone asks nothing": {dbtest.PGX, strings.Replace(pgStamp, "v text", "v text, _tx xid8 not null default pg_current_xact_id()", 1), "_tx, id", nil, safe, "its later changes are not read", false},
		"postgres, a sequence":             {dbtest.PGX, `create table orders (updated_at bigserial primary key, id int, v text)`, "updated_at", nil, insertsOnly, unchanged, false},
		"postgres, none":                   {dbtest.PGX, pgStamp, "updated_at, id", ceiling.None{}, lossy, unchanged, false},
		"mariadb, a number":                {dbtest.MySQL, `create table orders (updated_at bigint auto_increment primary key, id int, v text)`, "updated_at", nil, insertsOnly, unchanged, false},
		"mariadb, a default, none":         {dbtest.MySQL, `create table orders (id int primary key, updated_at timestamp(6) default current_timestamp(6), v text, key (updated_at, id))`, "updated_at, id", ceiling.None{}, lossy, unchanged, false},
		"mariadb, on update, none":         {dbtest.MySQL, `create table orders (id int primary key, updated_at timestamp(6) default current_timestamp(6) on update current_timestamp(6), v text, key (updated_at, id))`, "updated_at, id", ceiling.None{}, lossy, unchanged, true},
		"sqlite, a number":                 {dbtest.Modernc, `create table orders (updated_at integer primary key autoincrement, id int, v text)`, "updated_at", nil, insertsOnly, unchanged, false},
		"sqlite, a default":                {dbtest.Modernc, liteStamp, "updated_at, id", sqlite.SingleWriter{}, insertsOnly, unchanged, false},
		"sqlite, a trigger": {dbtest.Modernc, liteStamp + `create trigger u after update on orders when new.updated_at = old.updated_at begin update orders set updated_at = old.updated_at + 1 where id = new.id; end;`,
			"updated_at, id", sqlite.SingleWriter{}, safe, "its latest version again after each change", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := lab.DatabaseFor(t, c.driver).Open(t, c.driver)
			db.MustExec(c.table)
			db.MustExec(`insert into orders (id, v) values (1, 'new')`)
			table := lab.Silent(db, "orders", strings.Split(c.key, ", ")...)
			table.Ceiling = c.ceiling

			found := check(t, table, "")
			require.Equal(t, "orders: "+strings.Replace(c.verdict, "%", found.Report.Strategy, 1), strings.SplitN(found.text, "\n", 2)[0])
			require.Contains(t, found.Report.Guarantee, c.guarantee)
			if named := strings.Contains(c.key, "updated_at") && c.verdict != safe; named {
				found.finds(ceiling.Warning, `the name of "updated_at" says that each UPDATE sets it`)
				require.Equal(t, "updated_at", found.InsertsOnly)
			} else {
				require.Empty(t, found.InsertsOnly)
				require.NotContains(t, found.text, "says that each UPDATE sets it")
			}
			requireUpdateRead(t, db.MustExec, table, c.read)
		})
	}
}

// requireUpdateRead reads the inserted row, changes it, and reads again if that is expected.
func requireUpdateRead[R any](t *testing.T, exec func(string, ...any) R, table *sqlsource.Table, read bool) {
	t.Helper()
	var got []string
	at := table.Start
	lab.WaitFor(t, func() bool {
		at, _ = lab.PollOnce(t, table, at, &got)
		return len(got) == 1
	})
	exec(`update orders set v = 'changed'`)
	if read {
		lab.WaitFor(t, func() bool {
			at, _ = lab.PollOnce(t, table, at, &got)
			return len(got) == 2
		})
		return
	}
	lab.PollOnce(t, table, at, &got)
	require.Len(t, got, 1)
}
