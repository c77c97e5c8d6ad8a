package sqlsink

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// upserting opens a loaded sink.
func upserting(t *testing.T, db *sqlx.DB, table string, key ...string) *sqlsink.Sink[row.Row] {
	s, err := sqlsink.Upsert(db, "upsert "+table, table, sqlsink.Options{Key: key})
	require.NoError(t, err)
	_, err = s.Load(t.Context())
	require.NoError(t, err)
	return s
}

func texts(t *testing.T, db *sqlx.DB, query string) (all []string) {
	require.NoError(t, db.Select(&all, query))
	return all
}

// An upsert changes the row of its key, and no other one.
func TestUpsert(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec("CREATE TABLE plain (id bigint not null primary key, name varchar(20), kept varchar(5) not null default 'no')")
		db.MustExec("CREATE TABLE several (id bigint not null primary key, name varchar(20) unique, kept varchar(5) not null default 'no')")
		for _, table := range []string{"plain", "several"} {
			db.MustExec("INSERT INTO " + table + " VALUES (1, 'one', 'yes'), (2, 'two', 'yes')")
			s := upserting(t, db, table)
			require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: []row.Row{
				order(t, 3, "three"), order(t, 2, "first"), order(t, 4, "it's \\ four"), order(t, 2, "zwei"), order(t, 3, "drei"),
			}}))
			const query = " ORDER BY id"
			require.Equal(t, []string{"one", "zwei", "drei", "it's \\ four"}, texts(t, db, "SELECT name FROM "+table+query))
			require.Equal(t, []string{"yes", "yes", "no", "no"}, texts(t, db, "SELECT kept FROM "+table+query), "other columns keep their value")
		}
		s := upserting(t, db, "several")
		err := s.Write(t.Context(), source.Batch[row.Row]{From: "1", To: "2", Records: []row.Row{order(t, 9, "one")}})
		require.ErrorIs(t, err, sink.ErrRejected, "another row has the value of another unique key")
		require.Equal(t, []string{"1"}, texts(t, db, "SELECT id FROM several WHERE name = 'one'"))

		err = s.Write(t.Context(), source.Batch[row.Row]{From: "1", To: "2", Records: []row.Row{order(t, 8, nil)}})
		require.NoError(t, err)
		s = upserting(t, db, "several", "name")
		err = s.Write(t.Context(), source.Batch[row.Row]{From: "2", To: "3", Records: []row.Row{order(t, 9, nil)}})
		require.ErrorIs(t, err, sink.ErrRejected)
		require.ErrorContains(t, err, "identifies the row")
	})
}

// Two keys with different texts can be one row for the database.
func TestUpsertEqualKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		typ := []string{"numeric", "decimal(10,5)", "numeric"}[engineIndex(driver)]
		db.MustExec("CREATE TABLE t (id " + typ + " not null primary key, name varchar(20))")
		s := upserting(t, db, "t")
		number := row.NewColumns([]string{"id", "name"}, []row.Kind{row.Number, row.Text})
		one, err := row.Of(number, "1.0", "one")
		require.NoError(t, err)
		two, err := row.Of(number, "1.00", "two")
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: []row.Row{one, two}}))
		require.Equal(t, []string{"two"}, texts(t, db, "SELECT name FROM t"))
	})
}

// What cannot identify a row is refused, and a table of a key alone can be written.
func TestUpsertKeys(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec("CREATE TABLE keyless (id bigint not null, name varchar(20))")
		db.MustExec("CREATE TABLE other (id bigint not null, name varchar(20) not null primary key)")
		db.MustExec("CREATE TABLE both_columns (id bigint not null, name varchar(20) not null, primary key (name, id))")
		write := func(table string, key ...string) error {
			return upserting(t, db, table, key...).Write(t.Context(), source.Batch[row.Row]{To: "1", Records: []row.Row{order(t, 1, "a"), order(t, 2, "b"), order(t, 1, "a")}})
		}
		lab.RequirePermanent(t, write("keyless"), "keyless: the table has no primary key")
		lab.RequirePermanent(t, write("keyless", "id"), `the table has no unique key of the columns ["id"] alone`)
		lab.RequirePermanent(t, write("other", "nothing"), `no column "nothing"`)
		require.NoError(t, write("both_columns", "id", "name"))
		require.Equal(t, []string{"a", "b"}, texts(t, db, "SELECT name FROM both_columns ORDER BY id"))
		_, err := sqlsink.Insert(db, "x", "t", sqlsink.Options{Key: []string{"id"}})
		require.ErrorContains(t, err, "it is for Upsert and for Create")
	})
}
