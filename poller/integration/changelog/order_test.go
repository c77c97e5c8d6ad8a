package changelog

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/changelog"
)

// A writer that waits for a row lock records its change after those of the writer that has the lock.
func TestOrder(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		if isSQLite(driver) {
			return // has one writer at a time
		}
		table := orders(t, driver, db)
		first := lab.Begin(t, db, `delete from orders where id = 1`)
		done := make(chan error, 1)
		go func() {
			_, err := db.ExecContext(context.WithoutCancel(t.Context()), `insert into orders (id, v) values (1, 'second')`)
			done <- err
		}()
		waiting := `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
		if lab.IsMariaDB(driver) {
			waiting = `select count(*) from information_schema.processlist where info like 'insert into orders%second%' and db = database() and time_ms > 100`
		}
		lab.WaitFor(t, func() bool {
			var n int
			require.NoError(t, db.Get(&n, waiting))
			return n == 1
		})
		for _, s := range []string{`insert into orders (id, v) values (1, 'first')`, `delete from orders where id = 1`} {
			_, err := first.Exec(s)
			require.NoError(t, err)
		}
		require.NoError(t, first.Commit())
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(lab.WaitLimit):
			t.Fatal("the second writer does not end")
		}
		got, _ := read(t, table, "")
		require.Len(t, got, 4)
		require.Contains(t, got[3], "second", strings.Join(got, "\n"))
	})
}

// Rows that a trigger of the application inserts after TRUNCATE are not lost, whichever trigger runs first.
func TestTruncateAndInsert(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	things(db)
	table, keys := silent(db, "things"), silent(db, "things")
	keys.KeysOnly, keys.Changes = true, "things_keys"
	install(t, table)
	install(t, keys)
	for _, name := range []string{"aaa", "zzz"} {
		db.MustExec(`create or replace function seeded() returns trigger language plpgsql as 'begin insert into things values (1, ''seed'', 1) on conflict do nothing; return null; end';
			create trigger ` + name + ` after truncate on things execute function seeded()`)
	}
	db.MustExec(`insert into things values (2, 'b', 2)`)
	db.MustExec(`truncate things`)
	for _, source := range []*changelog.Table{table, keys} {
		copied := replica{}
		copied.follow(t, source, "")
		copied.requireSame(t, db, "things", "id")
		require.Len(t, copied, 1)
	}
}
