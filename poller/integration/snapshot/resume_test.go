package snapshot

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
)

func tableAndID(c row.Change) string {
	id, _ := c.Row.Get("id")
	return c.Table[strings.LastIndex(c.Table, ".")+1:] + " " + id
}

// A process that starts again continues after the last cursor, wherever that is, in another transaction: each row
// comes once while nothing is written.
func TestResume(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		names := transferring(db, driver, 5)
		want, _ := lab.ReadAll(t, changesOf(t, db, names...), "", 100, tableAndID)
		require.Len(t, want, 15)
		var got []string
		var after source.Cursor
		for more := true; more; {
			c := changesOf(t, db, names...)
			b, err := lab.Fetch(t, c, after, 2)
			require.NoError(t, err)
			for _, r := range b.Records {
				got = append(got, tableAndID(r))
			}
			if after != "" && b.More {
				require.Contains(t, b.Guarantee.Text, "the snapshot was interrupted: the rows are as of")
			}
			after, more = b.To, b.More
			require.NoError(t, c.Close())
		}
		require.Equal(t, want, got)
	})
}

// killed ends the sessions of the database's other connections.
func killed(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
	t.Helper()
	if lab.IsPostgres(driver) {
		db.MustExec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
		return
	}
	conn, err := db.DB.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	rows, err := conn.QueryContext(t.Context(), `select id from information_schema.processlist where db = database() and id <> connection_id()`)
	require.NoError(t, err)
	var ids []int
	for rows.Next() {
		var id int
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	for _, id := range ids {
		conn.ExecContext(t.Context(), fmt.Sprintf(`kill %d`, id)) //nolint:errcheck // it may have ended
	}
}

// The server ends the session. The rows already read stay, and the rest comes from a new snapshot, with the rows
// written since, a warning and another guarantee. A Strict snapshot ends with an error.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
			return // it has no server
		}
		names := transferring(db, driver, 5)
		var log bytes.Buffer
		c := changesOf(t, db, names...)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		first, err := lab.Fetch(t, c, "", 2)
		require.NoError(t, err)
		strict := changesOf(t, db, names...)
		strict.Strict = true
		begun, err := lab.Fetch(t, strict, "", 2)
		require.NoError(t, err)

		killed(t, driver, db)
		db.MustExec(`insert into by_number (id, amount) values (100, 1)`)
		got := []string{tableAndID(first.Records[0]), tableAndID(first.Records[1])}
		after, lost := first.To, 0
		for more := true; more; {
			b, err := lab.Fetch(t, c, after, 100)
			if err != nil {
				lost++
				require.Less(t, lost, 3, "%v", err)
				continue
			}
			for _, r := range b.Records {
				got = append(got, tableAndID(r))
			}
			after, more = b.To, b.More
			require.Contains(t, b.Guarantee.Text, "as of 2 moments")
		}
		require.Equal(t, 1, lost)
		require.Len(t, got, 16)
		require.Contains(t, got, "by_number 100")
		require.Contains(t, log.String(), `msg="snapshot lost"`)
		require.Equal(t, 1, strings.Count(log.String(), `msg="snapshot interrupted"`))

		for range 2 {
			_, err = lab.Fetch(t, strict, begun.To, 2)
			require.Error(t, err)
		}
		require.ErrorIs(t, err, snapshot.ErrInterrupted)
		lab.RequirePermanent(t, err)
		_, err = lab.Fetch(t, strict, "", 2)
		require.NoError(t, err, "it can begin again")
	})
}

// A table without a key continues only while its rows are the same: otherwise all of them come again.
func TestStreamedTableChanges(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		transferring(db, driver, 5)
		var log bytes.Buffer
		read := func(after source.Cursor, limit int) ([]string, source.Cursor) {
			r := rowsOf(t, db, snapshot.Table{Name: "by_none"})
			r.Logger = slog.New(slog.NewTextHandler(&log, nil))
			b, err := lab.Fetch(t, r, after, limit)
			require.NoError(t, err)
			var ids []string
			for _, r := range b.Records {
				ids = append(ids, r.Text(0))
			}
			require.NoError(t, r.Close())
			return ids, b.To
		}
		ids, at := read("", 2)
		require.Equal(t, []string{"0", "1"}, ids)
		db.MustExec(`insert into by_none values (9, 9)`)
		ids, at = read(at, 2)
		require.Equal(t, []string{"2", "3"}, ids)
		require.NotContains(t, log.String(), "table read again")
		db.MustExec(`update by_none set amount = 7 where id = 1`)
		ids, _ = read(at, 100)
		slices.Sort(ids)
		require.Equal(t, []string{"0", "1", "2", "3", "4", "9"}, ids)
		require.Equal(t, 1, strings.Count(log.String(), `msg="table read again"`))
	})
}

// A cursor of other tables, or of another database, is refused.
func TestForeignCursors(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		transferring(db, driver, 5)
		b, err := lab.Fetch(t, changesOf(t, db, "by_number", "by_text"), "", 2)
		require.NoError(t, err)
		require.True(t, snapshot.Made(b.To))
		_, err = changesOf(t, db, "by_none", "by_text").Fetch(t.Context(), b.To, 2)
		lab.RequirePermanent(t, err, "by_number", "with other tables")
		if lab.IsPostgres(driver) {
			other := lab.DatabaseFor(t, driver).Open(t, driver)
			transferring(other, driver, 5)
			_, err = changesOf(t, other, "by_number", "by_text").Fetch(t.Context(), b.To, 2)
			lab.RequirePermanent(t, err, "another history")
		}
		_, err = changesOf(t, db, "absent").Fetch(t.Context(), "", 2)
		require.ErrorContains(t, err, "absent")
	})
}

// A cursor says only in which table it stands. With another list of tables, one of them would never be read.
func TestOtherTables(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	names := transferring(db, dbtest.NCruces, 5)
	b, err := lab.Fetch(t, changesOf(t, db, names[1]), "", 2)
	require.NoError(t, err)
	_, end := lab.ReadAll(t, changesOf(t, db, names[1]), b.To, 100, tableAndID)
	for _, list := range [][]string{{names[0], names[1]}, {names[1], names[0]}} {
		for _, after := range []source.Cursor{b.To, end} {
			_, err = changesOf(t, db, list...).Fetch(t.Context(), after, 2)
			lab.RequirePermanent(t, err, "with other tables", "continue with that list, or start over with an empty checkpoint")
		}
	}
	b, err = lab.Fetch(t, changesOf(t, db, names[0], names[1]), "", 2)
	require.NoError(t, err)
	_, err = changesOf(t, db, names[1], names[0]).Fetch(t.Context(), b.To, 2)
	lab.RequirePermanent(t, err, "in another order")
}
