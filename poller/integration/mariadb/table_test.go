package mariadb

import (
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
)

// pollHeld polls until nothing is held back. Statements of other tests on the same server
// may hold rows back.
func pollHeld(t *testing.T, table *sqlsource.Table, after source.Cursor, got *[]string) source.Cursor {
	t.Helper()
	var held *source.Held
	require.Eventually(t, func() bool {
		after, held = lab.PollOnce(t, table, after, got)
		return held == nil
	}, dbWait, dbTick)
	return after
}

const (
	dbWait = 30 * time.Second
	dbTick = 5 * time.Millisecond
)

// Commits in reverse order, on tables of other forms.
func TestCeilingMariaDBTables(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]string{
		"unsigned":       "create or replace table t (id bigint unsigned not null auto_increment primary key, v varchar(40))",
		"secondary":      "create or replace table t (p varchar(40) not null default uuid() primary key, id bigint not null auto_increment unique, v varchar(40))",
		"not unique":     "create or replace table t (p varchar(40) not null default uuid() primary key, id bigint not null auto_increment, v varchar(40), key (id, v))",
		"hash":           "create or replace table t (id bigint not null auto_increment primary key, v varchar(40)) partition by hash (id) partitions 4",
		"range":          "create or replace table t (id bigint not null auto_increment primary key, v varchar(40)) partition by range (id) (partition a values less than (2), partition b values less than maxvalue)",
		"compressed":     "create or replace table t (id int not null auto_increment primary key, v varchar(40)) row_format = compressed",
		"columns' names": "create or replace table t (id int not null auto_increment primary key, v varchar(40), word int, `%d` int)",
	} {
		t.Run(name, func(t *testing.T) {
			eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
				db.MustExec(create)
				r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
				a.exec("begin", "insert into t (v) values ('1'), ('2')")
				b.exec("insert into t (v) values ('3')", "insert into t (v) values ('4')", "delete from t where id = 3")
				r.poll()
				require.Empty(t, r.got)
				require.NotNil(t, r.held)
				a.exec("savepoint s", "delete from t", "update t set v = 'x'") // deletes its two rows and the committed one, which it locks
				r.poll()
				require.Empty(t, r.got)
				require.NotNil(t, r.held)
				a.exec("rollback to s", "commit")
				var want []string
				require.NoError(t, db.Select(&want, "select id from t order by id"))
				require.Len(t, want, 3)
				r.pollUntil(want...)
				require.Len(t, r.naiveIDs, 1, "the naive reader must lose rows")
			})
		})
	}
}

// A backlog that spans several ranges of keys is read at once, even if a condition excludes
// a whole range, or if there are many gaps.
func TestCeilingMariaDBBacklog(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("create table x (id bigint not null auto_increment primary key, v int)")
		db.MustExec("insert into x (id) select seq from seq_1_to_200000 where seq % 7 > 0 and (seq < 70000 or seq > 140000)")
		db.MustExec("insert into x (id) values (5000000), (5000001), (9000000000000000000)")
		var want []string
		require.NoError(t, db.Select(&want, "select id from x order by id"))
		quiet := slog.New(slog.DiscardHandler)
		var got []string
		pollHeld(t, &sqlsource.Table{DB: db, Name: "x", Key: []string{"id"}, Columns: []string{"id"}, Logger: quiet}, "", &got)
		require.Equal(t, want, got)

		filtered := &sqlsource.Table{DB: db, Name: "x", Key: []string{"id"}, Columns: []string{"id"}, Where: "t.id > 5000000", Logger: quiet}
		pollHeld(t, filtered, "", new([]string)) // until statements of other tests have ended
		b, err := filtered.Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, b.Records, 2, "in one Fetch")
		require.False(t, b.More)
		require.WithinDuration(t, time.Now(), b.AsOf, time.Minute)
		b, err = filtered.Fetch(t.Context(), b.To, 10)
		require.NoError(t, err)
		require.Empty(t, b.Records)
	})
}

// The greatest possible keys.
func TestCeilingMariaDBLastKeys(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("insert into t (id, v) values (1, '1'), (9223372036854775805, '5'), (9223372036854775807, '7')")
		r, a := newReader(t, db), newSession(t, db)
		r.pollUntil("1", "9223372036854775805", "9223372036854775807")
		a.exec("begin", "insert into t (id, v) values (9223372036854775806, '6')") // an explicit key below the greatest
		r = newReader(t, db)
		require.Eventually(t, func() bool { r.poll(); return len(r.got) == 2 }, dbWait, dbTick)
		require.NotNil(t, r.held)
		a.exec("commit")
		r.pollUntil("1", "9223372036854775805", "9223372036854775806", "9223372036854775807")
	})
}

// The holder of rows is reported: its thread, and its program if performance_schema is on.
func TestCeilingMariaDBHolders(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"processlist":        nil,
		"performance_schema": {"--performance-schema=ON", "--performance-schema-consumer-events-statements-current=ON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.StartMariaDB(t, dbtest.Args(args...)).NewDatabase(t).Open(t, dbtest.MySQL)
			db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique, wait double not null default 0)")
			open := gates(t, db)
			r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
			b.exec("insert into t (v) values ('old')")
			r.pollUntil("1")
			a.start(db, "insert ignore into t (v, wait) values ('old', 0), ('new', 1)", "User lock")
			b.exec("insert into t (v) values ('z')")
			running := regexp.MustCompile(`^thread ` + strconv.FormatInt(a.id, 10) + ` \(dbtest@127\.0\.0\.1:\d+\), running a statement \(User lock\) for \d`)
			require.Eventually(t, func() bool { // a thread becomes idle some time after its answer
				r.poll()
				require.Len(t, r.got, 1)
				require.NotNil(t, r.held)
				return len(r.held.By) == 1 && running.MatchString(r.held.By[0])
			}, dbWait, dbTick)
			open[0]()
			open[1]()
			a.end()
			r.pollUntil("1", "2", "4")

			a.exec("begin", "insert into t (v) values ('a')")
			b.exec("insert into t (v) values ('b')")
			require.Eventually(t, func() bool {
				b, err := r.guarded.Fetch(t.Context(), r.after, 10)
				require.NoError(t, err)
				return b.Held != nil && len(b.Held.By) == 1 && idleThread(a.id, b.Held)
			}, dbWait, dbTick)
			a.exec("commit")
		})
	}
}

func idleThread(id int64, held *source.Held) bool {
	const idle = ", idle in its transaction for "
	for _, by := range held.By {
		if len(by) > len(idle) && by[:len("thread ")+len(strconv.FormatInt(id, 10))] == "thread "+strconv.FormatInt(id, 10) {
			return true
		}
	}
	return false
}

// With performance_schema, a thread that is never idle holds rows no longer than its
// statement ran.
func TestCeilingMariaDBNeverIdle(t *testing.T) {
	t.Parallel()
	server := dbtest.StartMariaDB(t, dbtest.Args("--performance-schema=ON", "--performance-schema-consumer-events-statements-current=ON"))
	db := server.NewDatabase(t).Open(t, dbtest.MySQL)
	db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique, wait double not null default 0)")
	open := gates(t, db)
	var report ceiling.Report
	conn, err := db.DB.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	target := ceiling.Table{SQL: mysql.Dialect{}, Label: "t", Parts: []string{"t"}, Name: "`t`", Key: []ceiling.Column{{Name: "id", Quoted: "`id`", Ref: "t.`id`"}}}
	g, err := mysql.DirtyProbe{}.Open(t.Context(), conn, target)
	require.NoError(t, err)
	report = g.Report()
	require.True(t, slices.ContainsFunc(report.Findings, func(f ceiling.Finding) bool {
		return f.Level == ceiling.OK && strings.Contains(f.Text, "statements apart")
	}), "%v", report.Findings)

	a, b := newSession(t, db), newSession(t, db)
	b.exec("insert into t (v) values ('old')")
	a.start(db, "insert ignore into t (v, wait) values ('old', 0), ('new', 1)", "User lock")
	b.exec("insert into t (v) values ('z')")
	l, err := g.Advance(t.Context(), conn, []string{"1"})
	require.NoError(t, err)
	require.True(t, l.Nothing)
	require.NotNil(t, l.Held)
	open[0]()
	open[1]()
	a.end()
	a.start(db, "do sleep(60)", "User sleep") // the next statement of the same thread
	require.Eventually(t, func() bool {       // other threads become idle some time after their answers
		l, err = g.Advance(t.Context(), conn, []string{"1"})
		require.NoError(t, err)
		return l.Held == nil
	}, dbWait, dbTick)
	require.Equal(t, []any{int64(4)}, l.Args)
	db.MustExec("kill query " + strconv.FormatInt(a.id, 10))
	a.end()
}

// If performance_schema records the statements of a trigger but not the INSERT around them,
// the end of such a statement is not mistaken for the end of the INSERT.
func TestCeilingMariaDBUnrecorded(t *testing.T) {
	t.Parallel()
	server := dbtest.StartMariaDB(t, dbtest.Args("--performance-schema=ON", "--performance-schema-consumer-events-statements-current=ON"))
	db := server.NewDatabase(t).Open(t, dbtest.MySQL)
	db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique, wait double not null default 0)")
	db.MustExec("update performance_schema.setup_instruments set enabled = 'NO' where name = 'statement/sql/insert'")
	open := gates(t, db)
	r, a, b := newReader(t, db), newSession(t, db), newSession(t, db)
	b.exec("insert into t (v) values ('old')")
	r.pollUntil("1")
	a.start(db, "insert ignore into t (v, wait) values ('old', 0), ('new', 1)", "User lock")
	b.exec("insert into t (v) values ('z')")
	inner := func() (id int64) {
		require.NoError(t, db.Get(&id, "select coalesce(max(query_id), 0) from information_schema.processlist where id = ? and state = 'User lock'", a.id))
		return id
	}
	before := inner()
	for range 3 {
		r.poll()
		require.Equal(t, []string{"1"}, r.got)
	}
	open[0]()
	require.Eventually(t, func() bool { now := inner(); return now != 0 && now != before }, dbWait, dbTick)
	for range 3 {
		r.poll()
		require.Equal(t, []string{"1"}, r.got)
		require.NotNil(t, r.held)
	}
	open[1]()
	a.end()
	r.pollUntil("1", "2", "4")
	require.Len(t, r.naiveIDs, 2, "the naive reader must lose a row")
}

// Grace reads past a gap after its time, or before that if the gap is filled.
func TestCeilingGrace(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(map[bool]string{true: "create table t (id bigint not null primary key, v int)", false: "create table t (id integer not null primary key, v int)"}[lab.IsPostgres(driver) || lab.IsMariaDB(driver)])
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Ceiling: ceiling.Grace{For: time.Hour}}
		var got []string
		after, held := lab.PollOnce(t, table, "", &got)
		require.Nil(t, held)
		db.MustExec("insert into t (id) values (1), (2), (4)")
		after, held = lab.PollOnce(t, table, after, &got)
		require.Equal(t, []string{"1", "2"}, got)
		require.NotNil(t, held)
		require.Contains(t, held.By[0], "1h0m0s")
		db.MustExec("insert into t (id) values (3)")
		after, held = lab.PollOnce(t, table, after, &got)
		require.Equal(t, []string{"1", "2", "3", "4"}, got)
		require.Nil(t, held)

		short := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Ceiling: ceiling.Grace{For: 50 * time.Millisecond}}
		db.MustExec("insert into t (id) values (7), (9)")
		require.Eventually(t, func() bool {
			after, held = lab.PollOnce(t, short, after, &got)
			return held == nil && len(got) == 6
		}, dbWait, dbTick)
		require.Equal(t, []string{"1", "2", "3", "4", "7", "9"}, got)

		_, err := (&sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: ceiling.Grace{}}).Fetch(t.Context(), "", 1)
		require.ErrorContains(t, err, "Grace.For is")
		db.MustExec("create table s (id smallint not null primary key)")
		db.MustExec("insert into s values (1), (2)")
		small, _ := lab.ReadAll(t, &sqlsource.Table{DB: db, Name: "s", Key: []string{"id"}, Ceiling: ceiling.Grace{For: time.Hour}}, "", 1, lab.RowJSON)
		require.Equal(t, []string{`{"id":1}`, `{"id":2}`}, small)
		db.MustExec("create table x (id varchar(20) not null primary key)")
		db.MustExec("insert into x values ('a')")
		_, err = (&sqlsource.Table{DB: db, Name: "x", Key: []string{"id"}, Ceiling: ceiling.Grace{For: time.Hour}}).Fetch(t.Context(), "", 1)
		require.Error(t, err)
	})
}
