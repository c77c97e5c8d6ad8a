package mariadb

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// gates creates a trigger that waits at two gates, in separate statements, for each row
// with wait = 1. It returns the functions that open them.
func gates(t *testing.T, db *sqlx.DB) (open [2]func()) {
	t.Helper()
	var name string
	require.NoError(t, db.Get(&name, "select database()"))
	db.MustExec(fmt.Sprintf(`create trigger gates before insert on t for each row begin
		if new.wait = 1 then
			do get_lock('%[1]s.0', 60); do release_lock('%[1]s.0');
			do get_lock('%[1]s.1', 60); do release_lock('%[1]s.1');
		end if; end`, name))
	keeper := newSession(t, db)
	for i := range open {
		keeper.exec(fmt.Sprintf("do get_lock('%s.%d', 0)", name, i))
		open[i] = func() { keeper.exec(fmt.Sprintf("do release_lock('%s.%d')", name, i)) }
	}
	return open
}

// No read shows a number that was drawn and has no row yet. The probe waits for it as long
// as its statement runs, also while statements of a trigger within it start and end.
func TestCeilingMariaDBDrawn(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		// The new row is the last one, and gets the lowest of the drawn numbers.
		"insert ignore into t (v, wait) values ('old', 0), ('old', 0), ('new', 1)",
		"insert into t (v, wait) values ('old', 0), ('old', 0), ('new', 1) on duplicate key update wait = 0",
		"begin not atomic insert ignore into t (v, wait) values ('old', 0), ('new', 1); end",
	} {
		t.Run(statement[:26], func(t *testing.T) {
			eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
				open := gates(t, db)
				r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
				b.exec("insert into t (v) values ('old')")
				r.pollUntil("1")
				a.start(db, statement, "User lock")
				b.exec("insert into t (v) values ('z')")
				var before int64
				query := "select query_id from information_schema.processlist where id = ?"
				require.NoError(t, db.Get(&before, query, a.id))
				for range 3 {
					r.poll()
					require.Equal(t, []string{"1"}, r.got)
					require.NotNil(t, r.held)
				}
				require.Len(t, r.naiveIDs, 2, "the naive reader must be ahead, or the test shows nothing")
				open[0]()
				require.Eventually(t, func() bool {
					var now int64
					err := db.Get(&now, query+" and state = 'User lock'", a.id) // no row while it is between the two locks
					return err == nil && now != before
				}, 30*time.Second, 5*time.Millisecond)
				for range 3 {
					r.poll()
					require.Equal(t, []string{"1"}, r.got)
				}
				open[1]()
				a.end()
				var want []string
				require.NoError(t, db.Select(&want, "select id from t order by id"))
				require.Len(t, want, 3)
				var second string
				require.NoError(t, db.Get(&second, "select v from t order by id limit 1 offset 1"))
				require.Equal(t, "new", second, "its key must be below that of the row committed before")
				r.pollUntil(want...)
				require.Len(t, r.naiveIDs, 2, "the naive reader must lose a row")
			})
		})
	}
}

// A row that its own transaction has deleted is invisible, and reappears when the DELETE
// alone is rolled back.
func TestCeilingMariaDBSavepoint(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
		a.exec("begin", "insert into t (v) values ('a')", "savepoint s", "delete from t where v = 'a'")
		b.exec("insert into t (v) values ('b')")
		for range 3 {
			r.poll()
			require.Empty(t, r.got)
			require.NotNil(t, r.held)
		}
		a.exec("rollback to s", "commit")
		r.pollUntil("1", "2")

		a.exec("begin", "insert into t (v) values ('c')", "delete from t where v = 'c'")
		b.exec("insert into t (v) values ('d')")
		r.poll()
		require.NotNil(t, r.held)
		a.exec("commit")
		r.pollUntil("1", "2", "4")
		require.Equal(t, []string{"2", "4"}, r.naiveIDs, "the naive reader must lose a row")
	})
}

// Rows are deleted below the cursor, above it, and in the same transaction as another one
// is inserted, so that row counts would cancel out.
func TestCeilingMariaDBDelete(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
		b.exec("insert into t (v) values ('1'), ('2'), ('3')")
		r.pollUntil("1", "2", "3")
		b.exec("delete from t", "insert into t (v) values ('4'), ('5')", "delete from t where v = '5'", "insert into t (v) values ('6')")
		r.pollUntil("1", "2", "3", "4", "6")
		b.exec("insert into t (v) values ('7')")
		a.exec("begin", "insert into t (v) values ('8')", "delete from t where v = '7'")
		b.exec("insert into t (v) values ('9')")
		r.poll()
		require.Equal(t, []string{"1", "2", "3", "4", "6", "7"}, r.got)
		require.NotNil(t, r.held)
		a.exec("rollback")
		r.pollUntil("1", "2", "3", "4", "6", "7", "9")
	})
}

// Updating a row that was read holds nothing back, even if there are more gaps than rows
// and reading all rows would find the gaps faster.
func TestCeilingMariaDBUpdate(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("insert into t (v) select seq from seq_1_to_50")
		db.MustExec("delete from t where id = 3 or id between 20 and 40")
		r, a := newReader(t, db), newSession(t, db)
		a.exec("begin", "update t set v = 'x' where id = 5")
		var want []string
		require.NoError(t, db.Select(&want, "select id from t order by id"))
		r.pollUntil(want...)
	})
}

// A prepared transaction holds the ceiling, also after a restart of the server.
func TestCeilingMariaDBPrepared(t *testing.T) {
	t.Parallel()
	server := dbtest.StartMariaDB(t)
	for _, driver := range []dbtest.Driver{dbtest.MySQL, dbtest.MySQLText} {
		t.Run(string(driver), func(t *testing.T) {
			db := server.NewDatabase(t).Open(t, driver)
			db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique)")
			r, b := newReader(t, db), newSession(t, db)
			gid := string(driver)
			a := newSession(t, db)
			a.exec("xa start '"+gid+"'", "insert into t (v) values ('a')", "xa end '"+gid+"'", "xa prepare '"+gid+"'")
			b.exec("insert into t (v) values ('b')")
			r.poll()
			require.Empty(t, r.got)
			require.NotNil(t, r.held)
			a.conn.Close()
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start())
			require.Eventually(t, func() bool {
				b, err := r.guarded.Fetch(t.Context(), "", 10)
				require.Empty(t, b.Records)
				return err == nil && b.Held != nil && len(b.Held.By) > 0 && b.Held.By[len(b.Held.By)-1] == fmt.Sprintf("prepared transaction %q (XA)", gid)
			}, 30*time.Second, 20*time.Millisecond)
			db.MustExec("xa commit '" + gid + "'")
			r.pollUntil("1", "2")
			require.Equal(t, []string{"2"}, r.naiveIDs)
		})
	}
}

// Wherever a Fetch is interrupted, no connection is left in READ UNCOMMITTED.
func TestCeilingMariaDBCutOff(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.SetMaxOpenConns(2)
		a := newSession(t, db)
		a.exec("insert into t (v) values ('0'), ('1'), ('2'), ('3')", "delete from t where v = '1'", "begin", "insert into t (v) values ('4')")
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}}
		cut, whole := 0, 0
		for i := 0; i < 400 && (i < 40 || whole == 0); i++ {
			// The first timeouts differ by microseconds; the later ones are for a busy
			// machine.
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond+time.Duration(max(0, i-40))*time.Millisecond)
			b, err := table.Fetch(ctx, "", 10)
			cancel()
			if err != nil {
				cut++
			} else {
				whole++
				for i, r := range b.Records { // fewer, if statements of other tests hold rows back
					require.Equal(t, []string{"1", "3", "4"}[i], r.Text(0))
				}
			}
			var level string
			var n int
			require.NoError(t, db.QueryRow("select @@session.tx_isolation, count(*) from t").Scan(&level, &n))
			require.Equal(t, "REPEATABLE-READ", level)
			require.Equal(t, 3, n)
		}
		require.Positive(t, cut)
		require.Positive(t, whole)
	})
}

// A connection of the pool with an open transaction sees neither rows committed since then
// nor uncommitted ones. It delivers nothing above such a row.
func TestCeilingMariaDBOpenTransaction(t *testing.T) {
	t.Parallel()
	database := dbtest.MariaDB(t).NewDatabase(t)
	db, left := database.Open(t, dbtest.MySQL), database.Open(t, dbtest.MySQL)
	left.SetMaxOpenConns(1)
	db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique)")
	r, a, b := newReader(t, left), newSession(t, db), newSession(t, db)
	a.exec("begin", "insert into t (v) values ('a')")
	b.exec("insert into t (v) values ('b')")
	left.MustExec("start transaction with consistent snapshot")
	a.exec("commit")
	for range 3 {
		r.poll()
		require.Empty(t, r.got)
		require.NotNil(t, r.held)
	}
	require.Equal(t, []string{"2"}, r.naiveIDs, "the naive reader must be ahead, or the test shows nothing")
	left.MustExec("rollback")
	r.pollUntil("1", "2")
}
