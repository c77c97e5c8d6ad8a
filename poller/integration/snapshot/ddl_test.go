package snapshot

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// A table that is not read yet cannot be emptied or rewritten: for the snapshot it would have no rows.
func TestTablesAreLocked(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table a (id int primary key)`)
		db.MustExec(`create table b (id int primary key)`)
		db.MustExec(`create materialized view m as select 1 as id`)
		for _, table := range []string{"a", "b"} {
			db.MustExec(`insert into ` + table + ` values (1), (2)`)
		}
		c := changesOf(t, db, "a", "b", "m")
		b, err := lab.Fetch(t, c, "", 1)
		require.NoError(t, err)
		conn, err := db.Connx(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(t.Context(), `set lock_timeout = '50ms'`)
		require.NoError(t, err)
		for _, statement := range []string{`truncate b`, `alter table b alter id type bigint`, `drop table b`, `refresh materialized view m`} {
			_, err = conn.ExecContext(t.Context(), statement)
			require.Equal(t, "55P03", dberr.SQLState(err), statement)
		}
		rest, _ := lab.ReadAll(t, c, b.To, 10, tableAndID)
		require.Equal(t, []string{"a 2", "b 1", "b 2", "m 1"}, rest)
		require.NoError(t, c.Close())
		_, err = conn.ExecContext(t.Context(), `truncate b`)
		require.NoError(t, err)
	})
}

// MariaDB refuses a table that was emptied after the moment. A new snapshot begins, and says so.
func TestTableIsEmptiedAfterTheMoment(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			db := lab.DatabaseFor(t, driver).Open(t, driver)
			db.MustExec(`create table a (id int primary key)`)
			db.MustExec(`create table b (id int primary key)`)
			db.MustExec(`insert into a values (1), (2)`)
			db.MustExec(`insert into b values (1), (2)`)
			c := changesOf(t, db, "a", "b")
			b, err := lab.Fetch(t, c, "", 1)
			require.NoError(t, err)
			db.MustExec(`truncate b`)
			db.MustExec(`insert into b values (9)`)
			got := []string{tableAndID(b.Records[0])}
			var last source.Batch[row.Change]
			lost := 0
			for after := b.To; ; after = last.To {
				batch, err := lab.Fetch(t, c, after, 10)
				if err != nil {
					require.Equal(t, retry.Transient, retry.Classify(err), "%v", err)
					lost++
					require.Less(t, lost, 3)
					last.To = after
					continue
				}
				last = batch
				for _, r := range batch.Records {
					got = append(got, tableAndID(r))
				}
				if !batch.More {
					break
				}
			}
			require.Equal(t, []string{"a 1", "a 2", "b 9"}, got)
			require.Equal(t, 1, lost)
			require.Contains(t, last.Guarantee.Text, "as of 2 moments")
		})
	}
}

// A pooler that keeps a session for a transaction keeps the snapshot. One that keeps it for a statement is refused.
func TestPoolers(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	d := server.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	names := transferring(db, dbtest.PGX, 5)
	for _, mode := range []string{"transaction", "statement"} {
		pooler := dbtest.StartPgBouncer(t, server, mode)
		for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
			c := changesOf(t, d.WithAddr(pooler.Addr()).Open(t, driver), names...)
			if mode == "statement" {
				_, err := lab.Fetch(t, c, "", 2)
				require.ErrorContains(t, err, "pool_mode = statement")
				if driver == dbtest.PGX { // lib/pq does not say why the connection ended
					lab.RequirePermanent(t, err)
				}
				continue
			}
			got, _ := lab.ReadAll(t, c, "", 2, tableAndID)
			require.Len(t, got, 15)
			require.NoError(t, c.Close())
		}
	}
}
