package sqlsource

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/conform"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// All statements of a Fetch run on one connection, so a pool of one is sufficient. The
// connection always returns to the pool.
func TestSQLSourceNeedsOneConnection(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.SetMaxOpenConns(1)
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v varchar(10))`)
		db.MustExec(`insert into t (v) values ('a'), ('b'), ('c')`)
		given := func() { require.Zero(t, db.Stats().InUse) }
		table := lab.Silent(db, "t", "id")
		query := &sqlsource.Query[struct{ ID, V string }]{DB: db, Select: "select * from t", Key: []string{"id"}, Table: "t", Logger: slog.New(slog.DiscardHandler)}
		got, at := lab.ReadAll(t, table, "", 2, lab.RowJSON)
		require.Len(t, got, 3)
		given()
		_, err := lab.Fetch(t, query, "", 2)
		require.NoError(t, err)
		given()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = table.Fetch(ctx, at, 10)
		require.ErrorIs(t, err, context.Canceled)
		given()
		for _, bad := range []*sqlsource.Table{lab.Silent(db, "absent", "id"), lab.Silent(db, "t", "absent"), lab.Silent(db, "t", "v")} {
			_, err = bad.Fetch(t.Context(), "", 10)
			require.Error(t, err)
			given()
		}
		_, err = table.Check(t.Context(), at)
		require.NoError(t, err)
		given()
		db.MustExec(`alter table t add c int`)
		_, err = lab.Fetch(t, table, at, 10)
		require.NoError(t, err)
		given()
		var out sinktest.Fake[row.Row]
		p := &poller.Poller[row.Row]{Name: "test", Source: table, Sink: &out, Checkpointer: new(pollertest.Checkpointer), Logger: slog.New(slog.DiscardHandler)}
		require.NoError(t, p.Drain(t.Context()))
		var delivered []string
		for _, r := range out.Records() {
			delivered = append(delivered, r.Text(0))
		}
		require.Equal(t, []string{"1", "2", "3"}, delivered)
		given()
	})
}

// If a context ends between two statements, the error says that, and not that the
// connection is bad, as pgx reports.
func TestSQLSourceContextEndsBetweenStatements(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	lab.OrdersOf(db, 1)
	for n, trip := range conform.Trips(1000) {
		if _, err := lab.Silent(db, "orders", "id").Fetch(trip.On(t.Context()), "", 10); err != nil {
			require.ErrorIs(t, err, context.Canceled, "at check %d of the context", n)
		}
	}
}

// The first Fetch succeeds however many connections of the pool are dead.
func TestSQLSourcePoolOfDeadConnections(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL, dbtest.MySQLText} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			d := lab.DatabaseFor(t, driver)
			db, admin := d.Open(t, driver), d.Open(t, driver)
			id, kill, left := `select pg_backend_pid()`, `select pg_terminate_backend(%d)`, `select count(*) from pg_stat_activity where pid in (%s)`
			if lab.IsMariaDB(driver) {
				id, kill, left = `select connection_id()`, `kill %d`, `select count(*) from information_schema.processlist where id in (%s)`
			}
			db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, v varchar(10))`)
			db.MustExec(`insert into t (v) values ('a')`)
			table := lab.Silent(db, "t", "id")
			_, err := lab.Fetch(t, table, "", 10)
			require.NoError(t, err)

			const pool = 8
			db.SetMaxIdleConns(pool)
			var conns []*sqlx.Conn
			var ids []string
			for range pool {
				conn, err := db.Connx(t.Context())
				require.NoError(t, err)
				var n int64
				require.NoError(t, conn.GetContext(t.Context(), &n, id))
				conns, ids = append(conns, conn), append(ids, fmt.Sprint(n))
			}
			for _, conn := range conns {
				require.NoError(t, conn.Close())
			}
			require.Equal(t, pool, db.Stats().Idle)
			for _, n := range ids {
				admin.MustExec(strings.Replace(kill, "%d", n, 1))
			}
			require.Eventually(t, func() bool {
				var n int
				return admin.Get(&n, fmt.Sprintf(left, strings.Join(ids, ", "))) == nil && n == 0
			}, lab.WaitLimit, 5*time.Millisecond)
			_, err = table.Fetch(t.Context(), "", 10)
			require.NoError(t, err)
		})
	}
}
