package mariadb

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A counter that was set back is detected with every ceiling. A table that was only
// emptied, pruned or rebuilt raises no error.
func TestHistoryMariaDB(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		statements []string
		refused    bool
		added      []string // ids read after one more row was inserted
	}{
		{"emptied", []string{"delete from t"}, false, []string{"6"}},
		{"pruned at the top", []string{"delete from t where id > 3"}, false, []string{"6"}},
		{"rebuilt", []string{"delete from t where id > 3", "optimize table t", "alter table t engine = innodb, algorithm = copy", "alter table t force", "alter table t add column w int"}, false, []string{"6"}},
		{"emptied and rebuilt", []string{"delete from t", "alter table t engine = innodb, algorithm = copy"}, false, []string{"6"}},
		{"numbers that no row got", []string{"insert ignore into t (v) values ('1'), ('1'), ('1')"}, false, []string{"9"}},
		{"renamed and back", []string{"rename table t to u", "rename table u to t"}, false, []string{"6"}},
		{"counter moved ahead", []string{"alter table t auto_increment = 100"}, false, []string{"100"}},
		{"truncated", []string{"truncate table t"}, true, nil},
		{"truncated and filled to below", []string{"truncate table t", "insert into t (v) values ('x'), ('y'), ('z')"}, true, nil},
		{"emptied, and set back", []string{"delete from t", "alter table t auto_increment = 1"}, true, nil},
		{"recreated", []string{"drop table t", "create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique)"}, true, nil},
		{"restored from a backup", []string{"drop table t", "create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique)", "insert into t values (1, '1'), (2, '2')"}, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
				for _, choice := range []ceiling.Ceiling{nil, ceiling.None{}} {
					db.MustExec("create or replace table t (id bigint not null auto_increment primary key, v varchar(40) not null unique)")
					table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Ceiling: choice}
					db.MustExec("insert into t (v) values ('1'), ('2'), ('3'), ('4'), ('5')")
					b, err := table.Fetch(t.Context(), "", 5)
					require.NoError(t, err)
					require.Len(t, b.Records, 5)
					early := fetchOne(t, table, "")
					for _, s := range c.statements {
						db.MustExec(s)
					}
					for _, again := range []*sqlsource.Table{table, {DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Ceiling: choice}} {
						if c.refused {
							require.ErrorIs(t, lab.Refused(t, again, b.To), sqlsource.ErrHistory)
							require.ErrorIs(t, lab.Refused(t, again, early), sqlsource.ErrHistory, "also for a cursor that is below the counter")
							continue
						}
						_, err = again.Fetch(t.Context(), b.To, 5)
						require.NoError(t, err)
					}
					if c.refused {
						continue
					}
					db.MustExec("insert into t (v) values ('more')")
					var got []string
					pollHeld(t, table, b.To, &got)
					require.Equal(t, c.added, got)
				}
			})
		})
	}
}

func fetchOne(t *testing.T, table *sqlsource.Table, after source.Cursor) source.Cursor {
	b, err := table.Fetch(t.Context(), after, 1)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	return b.To
}

// For a cursor without history, only the counter shows that the table was reset. After a
// rewind to the beginning, all existing rows are read.
func TestHistoryMariaDBTripwire(t *testing.T) {
	t.Parallel()
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec("insert into t (v) values ('1'), ('2'), ('3')")
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}}
		at, err := table.At(3)
		require.NoError(t, err)
		_, err = table.Fetch(t.Context(), at, 5)
		require.NoError(t, err)
		db.MustExec("truncate table t")
		err = lab.Refused(t, table, at)
		require.ErrorIs(t, err, sqlsource.ErrHistory)
		require.ErrorContains(t, err, "the AUTO_INCREMENT counter stands at 1")

		a, b := newSession(t, db), newSession(t, db)
		a.exec("begin", "insert into t (v) values ('a')")
		b.exec("insert into t (v) values ('b')")
		var got []string
		after, held := lab.PollOnce(t, table, "", &got)
		require.Empty(t, got, "what the probe knew about numbers before the reset must be forgotten")
		require.NotNil(t, held)
		a.exec("commit")
		pollHeld(t, table, after, &got)
		require.Equal(t, []string{"1", "2"}, got)
	})
	eachMariaDB(t, func(t *testing.T, db *sqlx.DB) { // the counter has reached the end of the type and does not change
		db.MustExec("create table x (id tinyint auto_increment primary key)")
		db.MustExec("insert into x values (126), (127)")
		table := &sqlsource.Table{DB: db, Name: "x", Key: []string{"id"}, Columns: []string{"id"}}
		var got []string
		after := pollHeld(t, table, "", &got)
		pollHeld(t, table, after, &got)
		require.Equal(t, []string{"126", "127"}, got)
	})
}

// A restart forgets numbers that were drawn and that no row got, and draws them again. That
// is not an error, not even after a crash.
func TestHistoryMariaDBRestart(t *testing.T) {
	t.Parallel()
	server := dbtest.StartMariaDB(t)
	db := server.NewDatabase(t).Open(t, dbtest.MySQL)
	db.MustExec("create table t (id bigint not null auto_increment primary key, v varchar(40) not null unique)")
	db.MustExec("insert into t (v) values ('1'), ('2')")
	for _, stop := range []func() error{server.Stop, server.Kill} {
		_, err := db.Exec("insert into t (v) select case when seq = 1 then null else seq end from seq_1_to_1000") // fails at the first row
		require.Error(t, err)
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}}
		var got []string
		after := pollHeld(t, table, "", &got)
		require.Equal(t, []string{"1", "2"}, got[:2])
		require.NoError(t, stop())
		require.NoError(t, server.Start())
		require.Eventually(t, func() bool { return db.Ping() == nil }, dbWait, dbTick)
		got = nil
		after = pollHeld(t, table, after, &got)
		require.Empty(t, got)
		res := db.MustExec("insert into t (v) values (uuid())")
		id, err := res.LastInsertId()
		require.NoError(t, err)
		pollHeld(t, table, after, &got)
		require.Len(t, got, 1)
		t.Logf("the next number after a restart is %d", id)
	}
}
