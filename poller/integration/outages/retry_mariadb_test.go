package outages

import (
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
)

func TestRetryMariaDB(t *testing.T) {
	t.Parallel()
	create := func(tb testing.TB) dbtest.Database { return dbtest.MariaDB(tb).NewDatabase(tb) }
	const slow = "select sum(a.seq * b.seq) from seq_1_to_1000000 a, seq_1_to_1000000 b"
	sleep := func(end string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return ended("select connection_id()", slow, "select count(*) from information_schema.processlist where id = ? and info = '"+slow+"'",
			func(x *sqlx.DB, id int64, _ func()) error { _, err := x.Exec(fmt.Sprint(end, " ", id)); return err })
	}
	const table = "create table t (id integer primary key, n integer check (n < 100), s varchar(40) not null default '' unique)"
	for _, f := range []failure{
		{"wrong password", retry.Setup, "MySQL error 1045 (28000)", false, func(_ *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return ping(db.WithUser("dbtest", secret), d)
		}},
		{"unknown database", retry.Setup, "MySQL error 1049 (42000): Unknown database 'absent'", false, func(t *testing.T, _ dbtest.Database, d dbtest.Driver) error {
			return ping(dbtest.MariaDB(t).Database("absent"), d)
		}},
		{"bad DSN", retry.Transient, "invalid DSN", false, badDSN(map[dbtest.Driver]string{
			dbtest.MySQL: "bob:" + secret + "@tcp(localhost:3306/db", dbtest.MySQLText: "bob:" + secret + "@tcp(localhost:3306",
		})},
		{"missing table", retry.Setup, "MySQL error 1146 (42S02)", false, statements("select * from absent")},
		{"missing column", retry.Setup, "MySQL error 1054 (42S22): Unknown column 'absent'", false, statements(table, "select absent from t")},
		{"missing function", retry.Setup, "MySQL error 1305 (42000)", false, statements("select absent(1)")},
		{"syntax error", retry.Setup, "MySQL error 1064 (42000): syntax error near FORM", true, statements("select * FORM t where s = '" + secret + "' and")},
		{"syntax error at a value", retry.Setup, "MySQL error 1064 (42000)", true, statements("select 1 from '" + secret + "'")},
		{"wrong number of columns", retry.Setup, "MySQL error 1136 (21S01)", false, statements(table, "insert into t values (1)")},
		{"no privilege", retry.Setup, "MySQL error 1142 (42000)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			return as("select * from t", table, "create user 'USER_'@'%' identified by 'pw'", "grant insert on "+db.Name()+".t to 'USER_'@'%'")(t, db, d)
		}},
		{"no access to the database", retry.Setup, "MySQL error 1044 (42000)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, user := db.Open(t, d), fmt.Sprintf("'none_%s'@'%%'", db.Name())
			x.MustExec("create user " + user + " identified by 'pw'")
			defer x.MustExec("drop user " + user)
			return ping(db.WithUser("none_"+db.Name(), "pw"), d)
		}},
		{"read-only transaction", retry.Transient, "MySQL error 1792 (25006)", false,
			statements(table, "set session transaction read only", "insert into t values (1, 1, 'a')")},
		{"deadlock", retry.Transient, "MySQL error 1213 (40001)", false, deadlock()},
		{"lock timeout", retry.Transient, "MySQL error 1205 (HY000)", false,
			blocked("update t set n = 1", "set innodb_lock_wait_timeout = 0", "update t set n = 2")},
		{"statement timeout", retry.Transient, "MySQL error 1969 (70100)", false, statements("set statement max_statement_time = 0.02 for " + slow)},
		{"query killed", retry.Transient, "MySQL error 1317 (70100)", false, sleep("kill query")},
		{"session killed", retry.Transient, "", false, sleep("kill")},
		{"user's connections", retry.Transient, "MySQL error 1226 (42000)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, user := db.Open(t, d), fmt.Sprintf("'few_%s'@'%%'", db.Name())
			x.MustExec("create user " + user + " identified by 'pw' with max_user_connections 1")
			x.MustExec("grant select on " + db.Name() + ".* to " + user)
			t.Cleanup(func() { x.MustExec("drop user " + user) })
			few := db.WithUser("few_"+db.Name(), "pw")
			few.Open(t, d)
			return ping(few, d)
		}},
		{"context deadline", retry.Transient, "", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			var thread int64
			err := ended("select connection_id()", "do sleep(60)", "select count(*) from information_schema.processlist where id = ? and info = 'do sleep(60)'",
				func(_ *sqlx.DB, id int64, expire func()) error { thread = id; expire(); return nil })(t, db, d)
			_, _ = db.Open(t, d).Exec(fmt.Sprint("kill ", thread)) // the server may not have noticed that the client is gone
			return err
		}},
		{"unique violation", retry.Data, "MySQL error 1062 (23000): integrity constraint violated (key 's')", true,
			statements(table, "insert into t values (1, 1, '"+secret+"')", "insert into t values (2, 1, '"+secret+"')")},
		{"check violation", retry.Data, "MySQL error 4025 (23000)", false, statements(table, "insert into t values (1, 100, 'a')")},
		{"null", retry.Data, "MySQL error 1048 (23000): Column 's' cannot be null", false, statements(table, "insert into t values (1, 1, null)")},
		{"foreign key", retry.Data, "MySQL error 1452 (23000)", false,
			statements(table, "create table u (s varchar(40), foreign key (s) references t (s))", "insert into u values ('"+secret+"')")},
		{"no default", retry.Setup, "MySQL error 1364 (HY000): Field 'n' doesn't have a default value", false,
			statements("create table d (id integer, n integer not null)", "insert into d (id) values (1)")},
		{"out of range", retry.Data, "MySQL error 1264 (22003): Out of range value for column 'id'", false, statements(table, "insert into t values (3000000000, 1, 'a')")},
		{"invalid text", retry.Data, "MySQL error 1366 (22007): incorrect value (column", true, statements(table, "insert into t values ('"+secret+"', 1, 'a')")},
		{"invalid date", retry.Data, "MySQL error 1292 (22007): incorrect value (column", true, statements("create table d (d date)", "insert into d values ('"+secret+"')")},
		{"truncated", retry.Data, "MySQL error 1292 (22007)", true, statements(table, "insert into t values (1, 1, '1')", "update t set n = 1 where s = 0 + '"+secret+"'")},
		{"too long", retry.Data, "MySQL error 1406 (22001): Data too long for column 's'", false, statements(table, "insert into t values (1, 1, repeat('x', 41))")},
		{"raised", retry.Transient, "MySQL error 1644 (45000)", true,
			statements("begin not atomic signal sqlstate '45000' set message_text = '" + secret + "'; end")},
		{"raised with a code", retry.Setup, "MySQL error 1644 (42000)", true,
			statements("begin not atomic signal sqlstate '42000' set message_text = '" + secret + "'; end")},
		{"scan", retry.Transient, "value not shown", true, scanned},
	} {
		f.check(t, create, dbtest.MySQL, dbtest.MySQLText)
	}
}
