package mariadb

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// requireRefused returns the error of a table that the probe refuses.
func requireRefused(t *testing.T, table *sqlsource.Table) *ceiling.UnsafeError {
	t.Helper()
	_, err := table.Fetch(t.Context(), "", 10)
	var unsafe *ceiling.UnsafeError
	require.ErrorAs(t, err, &unsafe)
	require.Equal(t, retry.Fatal, retry.Classify(err))
	return unsafe
}

// wantUnsafe requires an unsafe finding with that text and that fix.
func wantUnsafe(t *testing.T, e *ceiling.UnsafeError, text, fix string) {
	t.Helper()
	var all []string
	for _, f := range e.Report.Findings {
		if f.Level != ceiling.Unsafe {
			continue
		}
		remedies := fmt.Sprint(f.Remedies)
		all = append(all, f.Text+" -> "+remedies)
		if strings.Contains(f.Text, text) && strings.Contains(remedies, fix) {
			return
		}
	}
	require.Fail(t, "no such finding", "%q with the fix %q in\n%s", text, fix, strings.Join(all, "\n"))
}

// Every unsafe table is refused with the reason and the statement to run.
func TestCeilingMariaDBRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ create, key, text, fix string }{
		"engine":             {"create table x (id bigint auto_increment primary key) engine=aria", "id", "the engine is Aria", "change the engine to InnoDB"},
		"no auto_increment":  {"create table x (id bigint primary key)", "id", `"id" of the type bigint is not AUTO_INCREMENT`, "dbtofile -check -table x prints the statements"},
		"uuid":               {"create table x (id uuid primary key default uuid())", "id", "of the type uuid", "diffsource"},
		"no index":           {"create table x (a bigint, id bigint auto_increment, primary key (a, id), key (id, a), v int)", "v", `"v" of the type int is not AUTO_INCREMENT`, "set Key to id"},
		"ignored index":      {"create table x (id bigint not null auto_increment, v int primary key, unique u (id)); alter table x alter index u ignored", "id", "no index that the optimizer may use", "ALTER TABLE `x` ADD INDEX IF NOT EXISTS `devotion_id` (`id`);"},
		"timestamp":          {"create table x (id bigint auto_increment primary key, at timestamp(6) not null default current_timestamp(6), key (at))", "at", "CURRENT_TIMESTAMP", "diffsource"},
		"on update":          {"create table x (id bigint auto_increment primary key, at datetime(6) not null default current_timestamp(6) on update current_timestamp(6), key (at))", "at", "ON UPDATE", "diffsource"},
		"view":               {"create table y (id bigint auto_increment primary key); create view x as select distinct id from y", "id", "is a view", "use a Query"},
		"versioned":          {"create table x (id bigint auto_increment primary key) with system versioning", "id", "system-versioned", "not system-versioned"},
		"sequence":           {"create sequence x", "next_not_cached_value", "is not a base table, but a sequence", ""},
		"above 2^63":         {"create table x (id bigint unsigned auto_increment primary key); insert into x values (9223372036854775808)", "id", "above 9223372036854775807", ""},
		"not the first part": {"create table x (a int, id bigint auto_increment, primary key (a, id), key (id))", "a", `"a" of the type int is not AUTO_INCREMENT`, "set Key to id"},
	} {
		t.Run(name, func(t *testing.T) {
			eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
				for _, s := range strings.Split(c.create, "; ") {
					db.MustExec(s)
				}
				table := &sqlsource.Table{DB: db, Name: "x", Key: []string{c.key}}
				if name == "timestamp" {
					db.SetMaxOpenConns(1)
					db.MustExec("set time_zone = '+00:00'")
				}
				e := requireRefused(t, table)
				wantUnsafe(t, e, c.text, c.fix)
				if name == "ignored index" {
					for range 2 {
						db.MustExec(c.fix)
					}
					pollHeld(t, table, "", new([]string))
				}
			})
		})
	}
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		e := requireRefused(t, &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: postgres.LockFence{}})
		wantUnsafe(t, e, "Postgres only", "leave Ceiling nil")
	})
	t.Run("Postgres", func(t *testing.T) {
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		db.MustExec("create table t (id bigserial primary key)")
		e := requireRefused(t, &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: mysql.DirtyProbe{}})
		wantUnsafe(t, e, "MySQL or MariaDB only, and this is Postgres", "leave Ceiling nil")
	})
}

// An unsafe server is refused, whatever the table.
func TestCeilingMariaDBRefusesServer(t *testing.T) {
	t.Parallel()
	server := dbtest.StartMariaDB(t)
	database := server.NewDatabase(t)
	admin := database.Open(t, dbtest.MySQL)
	admin.SetMaxOpenConns(1)
	admin.MustExec("create table t (id bigint auto_increment primary key)")
	for _, c := range []struct{ set, back, text, fix string }{
		{"set global auto_increment_increment = 2", "set global auto_increment_increment = 1", "auto_increment_increment is 2", "SET GLOBAL auto_increment_increment = 1"},
		{"set global read_only = on", "set global read_only = off", "read_only is ON", "read from the primary"},
		{"set global tx_isolation = 'READ-UNCOMMITTED'", "set global tx_isolation = 'REPEATABLE-READ'", "READ UNCOMMITTED", "transaction_isolation"},
		{"set global autocommit = off", "set global autocommit = on", "autocommit is off", "autocommit=1"},
		{"set global sql_select_limit = 100", "set global sql_select_limit = default", "sql_select_limit is set", "sql_select_limit=DEFAULT"},
		{"set global sql_select_limit = 1", "set global sql_select_limit = default", "sql_select_limit is set", "sql_select_limit=DEFAULT"},
	} {
		for _, driver := range database.Drivers() {
			admin.MustExec(c.set)
			wantUnsafe(t, requireRefused(t, &sqlsource.Table{DB: database.Open(t, driver), Name: "t", Key: []string{"id"}}), c.text, c.fix)
			admin.MustExec(c.back)
		}
	}

	// A session whose isolation level changes later.
	db := database.Open(t, dbtest.MySQL)
	db.SetMaxOpenConns(1)
	table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}}
	_, err := table.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	db.MustExec("set session transaction isolation level read uncommitted")
	_, err = table.Fetch(t.Context(), "", 10)
	require.ErrorContains(t, err, "READ UNCOMMITTED")
	db.MustExec("set session transaction isolation level read committed")
	_, err = table.Fetch(t.Context(), "", 10)
	require.NoError(t, err, "READ COMMITTED is allowed")
	db.MustExec("insert into t values (1)")
	db.MustExec("set sql_select_limit = 100")
	_, err = table.Fetch(t.Context(), "", 10)
	require.ErrorContains(t, err, "sql_select_limit")
	db.MustExec("set sql_select_limit = default")
	db.MustExec("delete from t")

	// A replication applier that starts later. It waits for a primary, which does not
	// exist.
	admin.MustExec("insert into t values (), (), ()")
	admin.MustExec("delete from t where id = 2") // a gap makes the probe check the threads
	admin.MustExec("change master to master_host = '127.0.0.1', master_port = 1, master_user = 'x'")
	admin.MustExec("start slave")
	wantUnsafe(t, requireRefused(t, &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}}), "applier", "STOP SLAVE")
	wantUnsafe(t, requireRefused(t, table), "applier", "STOP SLAVE")
	admin.MustExec("stop slave")
	wantUnsafe(t, requireRefused(t, table), "is a replica", "RESET SLAVE ALL")
	admin.MustExec("reset slave all")
	var got []string
	pollHeld(t, table, "", &got)
	require.Equal(t, []string{"3", "4"}, got)
}

// A plain role needs SELECT and PROCESS. The error names the missing one, also if it is
// revoked later.
func TestCeilingMariaDBRole(t *testing.T) {
	t.Parallel()
	server := dbtest.MariaDB(t)
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		database := server.NewDatabase(t)
		admin := database.Open(t, driver)
		admin.MustExec("create table t (id bigint auto_increment primary key, v int)")
		admin.MustExec("insert into t (v) values (1), (2), (3)")
		admin.MustExec("delete from t where v = 2")
		user := "a@" + database.Name()
		admin.MustExec("create user `" + user + "`@'%' identified by 'pw'")
		t.Cleanup(func() { admin.MustExec("drop user `" + user + "`@'%'") })
		open := func() *sqlsource.Table {
			return &sqlsource.Table{DB: database.WithUser(user, "pw").Open(t, driver), Name: "t", Key: []string{"id"}}
		}
		admin.MustExec("grant select (id, v) on " + database.Name() + ".t to `" + user + "`@'%'")
		wantUnsafe(t, requireRefused(t, open()), "PROCESS", "GRANT PROCESS ON *.* TO `"+user+"`@`%`")
		admin.MustExec("grant select on " + database.Name() + ".* to `" + user + "`@'%'")
		wantUnsafe(t, requireRefused(t, open()), "PROCESS", "GRANT PROCESS ON *.* TO `"+user+"`@`%`")
		admin.MustExec("grant process on *.* to `" + user + "`@'%'")
		table := open()
		var got []string
		pollHeld(t, table, "", &got)
		require.Equal(t, []string{"1", "3"}, got)
		admin.MustExec("revoke process on *.* from `" + user + "`@'%'")
		table.DB.SetMaxIdleConns(0) // a session keeps its global privileges
		admin.MustExec("insert into t (v) values (4), (5), (6)")
		admin.MustExec("delete from t where v = 5")
		wantUnsafe(t, requireRefused(t, table), "PROCESS", "GRANT PROCESS")
	}
}

// A trigger may change the key, and the guarantee says so.
func TestCeilingMariaDBTrigger(t *testing.T) {
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("create table x (id bigint auto_increment primary key, v int)")
		db.MustExec("create trigger g before insert on x for each row set new.v = 7")
		target := ceiling.Table{SQL: mysql.Dialect{}, Label: "x", Parts: []string{"x"}, Name: "`x`", Key: []ceiling.Column{{Name: "id", Quoted: "`id`", Ref: "t.`id`"}}}
		g, err := mysql.DirtyProbe{}.Open(t.Context(), db.DB, target)
		require.NoError(t, err)
		require.Contains(t, g.Report().Guarantee, `as long as the trigger g leaves "id" alone`)
		levels := map[ceiling.Level]bool{}
		for _, f := range g.Report().Findings {
			levels[f.Level] = true
		}
		require.True(t, levels[ceiling.Warning])
	})
}

// No statement adds a column to a table without an AUTO_INCREMENT column.
func TestCeilingMariaDBRemedies(t *testing.T) {
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("create table plain (id char(1) primary key, v int)")
		e := requireRefused(t, &sqlsource.Table{DB: db, Name: "plain", Key: []string{"id"}})
		for _, f := range e.Report.Findings {
			for _, r := range f.Remedies {
				require.NotContains(t, fmt.Sprint(r.Statements), "TABLE")
			}
		}
		require.Contains(t, e.Error(), "dbtofile -check -table plain prints the statements")
	})
}
