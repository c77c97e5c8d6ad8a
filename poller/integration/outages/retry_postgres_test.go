package outages

import (
	"os/exec"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
)

func TestRetryPostgres(t *testing.T) {
	t.Parallel()
	create := func(tb testing.TB) dbtest.Database { return dbtest.Postgres(tb).NewDatabase(tb) }
	sleep := func(end func(*sqlx.DB, int64, func()) error) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return ended("select pg_backend_pid()", "select pg_sleep(60)", "select count(*) from pg_stat_activity where pid = ? and wait_event = 'PgSleep'", end)
	}
	endedBy := func(statement string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return sleep(func(x *sqlx.DB, id int64, _ func()) error { _, err := x.Exec(statement, id); return err })
	}
	const table = "create table t (id integer primary key, n integer check (n < 100), s varchar(40) not null default '' unique)"
	for _, f := range []failure{
		{"wrong password", retry.Setup, "SQLSTATE 28P01", false, func(_ *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return ping(db.WithUser("dbtest", secret), d)
		}},
		{"unknown user", retry.Setup, "SQLSTATE 28P01", false, func(_ *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return ping(db.WithUser("nobody", secret), d)
		}},
		{"unknown database", retry.Setup, `SQLSTATE 3D000: database "absent" does not exist`, false, func(t *testing.T, _ dbtest.Database, d dbtest.Driver) error {
			return ping(dbtest.Postgres(t).Database("absent"), d)
		}},
		{"bad DSN", retry.Setup, "cannot be parsed", false, badDSN(map[dbtest.Driver]string{
			dbtest.PGX: "postgres://bob:" + secret + "@localhost:port/db", dbtest.PQ: "postgres://bob:" + secret + "@localhost:port/db",
		})},
		{"missing table", retry.Setup, `SQLSTATE 42P01: relation "absent" does not exist`, false, statements("select * from absent")},
		{"missing schema", retry.Setup, `SQLSTATE 3F000: schema "absent" does not exist`, false, statements("create table absent.t ()")},
		{"missing column", retry.Setup, `SQLSTATE 42703: column "absent" does not exist`, false, statements(table, "select absent from t")},
		{"syntax error", retry.Setup, "SQLSTATE 42601: syntax error near FORM", false, statements("select * FORM t where s = '" + secret + "'")},
		{"syntax error at a value", retry.Setup, "SQLSTATE 42601", true, statements("select 1 '" + secret + "'")},
		{"no privilege", retry.Setup, "SQLSTATE 42501: permission denied for table t", false,
			as("select * from t", table, "create user USER_ password 'pw'")},
		{"no login", retry.Setup, "SQLSTATE 28000", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, user := db.Open(t, d), "nologin_"+db.Name()
			x.MustExec("create role " + user + " nologin password '" + secret + "'")
			defer x.MustExec("drop role " + user)
			return ping(db.WithUser(user, secret), d)
		}},
		{"read-only", retry.Transient, "SQLSTATE 25006", false,
			statements(table, "set default_transaction_read_only = on", "insert into t values (1)")},
		{"serialization failure", retry.Transient, "SQLSTATE 40001", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			x.MustExec("insert into t values (1, 0)")
			tx := x.MustBegin()
			defer tx.Rollback()
			tx.MustExec("set transaction isolation level repeatable read")
			var n int
			require.NoError(t, tx.Get(&n, "select n from t"))
			x.MustExec("update t set n = 1")
			_, err := tx.Exec("update t set n = 2")
			return err
		}},
		{"deadlock", retry.Transient, "SQLSTATE 40P01", false, deadlock("set local deadlock_timeout = '20ms'")},
		{"lock timeout", retry.Transient, "SQLSTATE 55P03", false,
			blocked("lock table t", "set local lock_timeout = '10ms'", "insert into t values (2)")},
		{"lock timeout at a row", retry.Transient, "SQLSTATE 55P03", false,
			blocked("update t set n = 1", "set local lock_timeout = '10ms'", "update t set n = 2")},
		{"statement timeout", retry.Transient, "SQLSTATE 57014", false,
			statements("set statement_timeout = '10ms'", "select pg_sleep(60)")},
		{"query cancelled", retry.Transient, "SQLSTATE 57014", false, endedBy("select pg_cancel_backend($1)")},
		{"session terminated", retry.Transient, "", false, endedBy("select pg_terminate_backend($1)")},
		{"context deadline", retry.Transient, "", false, sleep(func(_ *sqlx.DB, _ int64, expire func()) error { expire(); return nil })},
		{"unique violation", retry.Data, "SQLSTATE 23505: duplicate key (constraint t_s_key, schema public, table t)", false,
			statements(table, "insert into t values (1, 1, '"+secret+"')", "insert into t values (2, 1, '"+secret+"')")},
		{"check violation", retry.Data, "SQLSTATE 23514: check constraint violated (constraint t_n_check", false, statements(table, "insert into t values (1, 100)")},
		{"null", retry.Data, "table t, column s)", false, statements(table, "insert into t values (1, 1, null)")},
		{"foreign key", retry.Data, "SQLSTATE 23503", false, statements(table, "create table u (s varchar(40) references t (s))", "insert into u values ('"+secret+"')")},
		{"out of range", retry.Data, "SQLSTATE 22003", false, statements(table, "insert into t values (3000000000)")},
		{"invalid text", retry.Data, "SQLSTATE 22P02", true, statements(table, "insert into t values ('"+secret+"')")},
		{"invalid date", retry.Data, "SQLSTATE 22007", true, statements("select date '" + secret + "'")},
		{"too long", retry.Data, "SQLSTATE 22001", false, statements(table, "insert into t values (1, 1, repeat('x', 41))")},
		{"NUL byte", retry.Data, "SQLSTATE 22021", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			_, err := x.Exec("insert into t values (1, 1, $1)", secret+"\x00")
			return err
		}},
		{"one row twice in a batch", retry.Data, "SQLSTATE 21000", false,
			statements(table, "insert into t values (1, 1, 'a'), (1, 2, 'b') on conflict (id) do update set n = excluded.n")},
		{"index entry too large", retry.Data, "SQLSTATE 54000", false,
			statements("create table big (s text unique)", "insert into big select string_agg(md5(i::text), '') from generate_series(1, 1000) i")},
		{"raised", retry.Transient, "SQLSTATE P0001", true,
			statements("do $$ begin raise exception 'no such user: " + secret + "'; end $$")},
		{"raised with a code", retry.Setup, "SQLSTATE 42501", true,
			statements("do $$ begin raise exception '" + secret + "' using errcode = '42501'; end $$")},
		{"raised as a violation", retry.Data, "SQLSTATE 23514", true,
			statements("do $$ begin raise exception '" + secret + "' using errcode = 'check_violation'; end $$")},
		{"scan", retry.Transient, "value not shown", true, scanned},
		{"cached plan", retry.Setup, "SQLSTATE 0A000", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.SetMaxOpenConns(1)
			x.MustExec(table)
			x.MustExec("prepare p as select * from t")
			x.MustExec("alter table t add column more integer")
			_, err := x.Exec("execute p")
			return err
		}},
		{"disk full", retry.Transient, "SQLSTATE 53100", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			dir, x := tmpfs(t), db.Open(t, d)
			var data string // the server's user owns it, and must own the tablespace too
			require.NoError(t, x.Get(&data, "select current_setting('data_directory')"))
			out, err := exec.Command("chown", "--reference="+data, dir).CombinedOutput()
			require.NoError(t, err, "%s", out)
			space := "full_" + db.Name()
			x.MustExec("create tablespace " + space + " location '" + dir + "'")
			defer func() { x.MustExec("drop table t"); x.MustExec("drop tablespace " + space) }()
			x.MustExec("create table t (s text) tablespace " + space)
			_, err = x.Exec("insert into t select repeat('x', 1000) from generate_series(1, 10000)")
			return err
		}},
	} {
		f.check(t, create, dbtest.PGX, dbtest.PQ)
	}
}
