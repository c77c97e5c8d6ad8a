package sqlsource

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// All fetches of a Table with a Conn are part of the caller's transaction, which stays open: what others commit is not
// seen, and no plan is asked for that would end it.
func TestConnKeepsItsTransaction(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		begin := "begin"
		switch {
		case lab.IsPostgres(driver):
			begin = "begin isolation level repeatable read read only"
		case lab.IsMariaDB(driver):
			begin = "start transaction with consistent snapshot, read only"
		default:
			db.MustExec(`pragma journal_mode = wal`)
		}
		db.MustExec(`create table t (id int not null, v varchar(9))`) // without an index, of which a plan would warn
		db.MustExec(`insert into t values (1, 'a'), (2, 'b'), (3, 'c')`)
		conn, err := db.DB.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(t.Context(), begin)
		require.NoError(t, err)
		table := lab.Silent(db, "t", "id")
		table.Conn, table.Ceiling = conn, ceiling.None{}
		var got []string
		var after source.Cursor
		for i := range 3 {
			b, err := lab.Fetch(t, table, after, 1)
			require.NoError(t, err)
			for _, r := range b.Records {
				got = append(got, r.Text(1))
			}
			after = b.To
			db.MustExec(fmt.Sprintf(`insert into t values (%d, 'new')`, 10+i))
		}
		c, err := table.Check(t.Context(), after)
		require.NoError(t, err)
		require.Empty(t, c.Plan)
		b, err := lab.Fetch(t, table, after, 10)
		require.NoError(t, err)
		require.Empty(t, b.Records)
		require.Equal(t, []string{"a", "b", "c"}, got)
		_, err = conn.ExecContext(t.Context(), "rollback")
		require.NoError(t, err)
		b, err = lab.Fetch(t, table, after, 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 3)
	})
}

// A row that the server refuses aborts a transaction of Postgres. With the savepoint it is a bad record.
func TestConnGoesBackToItsSavepoint(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key)`)
		db.MustExec(`insert into t select generate_series(1, 5)`)
		db.MustExec(`create view v as select id, 10 / (id - 3) as q from t`)
		conn, err := db.DB.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		for _, statement := range []string{"begin isolation level repeatable read read only", "savepoint " + dialect.Savepoint} {
			_, err = conn.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		table := lab.Silent(db, "v", "id")
		table.Conn, table.Ceiling = conn, ceiling.None{}
		var got []string
		var after source.Cursor
		for range 10 {
			b, err := lab.Fetch(t, table, after, 2)
			var bad *source.BadRecord
			if errors.As(err, &bad) {
				got, after = append(got, "!"+bad.Key), bad.To
				continue
			}
			require.NoError(t, err)
			for _, r := range b.Records {
				got = append(got, r.Text(0))
			}
			after = b.To
		}
		require.Equal(t, []string{"1", "2", "!id 3", "4", "5"}, got)
		_, err = conn.ExecContext(t.Context(), "rollback")
		require.NoError(t, err)
	})
}
