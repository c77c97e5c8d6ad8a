package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// The database computes generated columns, and numbers that it would draw are stored as they are.
func TestGeneratedColumns(t *testing.T) {
	eachSink(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(string) *sqlsink.Sink[row.Row]) {
		id := []string{"bigint generated always as identity primary key", "bigint auto_increment primary key", "integer primary key autoincrement"}[engineIndex(driver)]
		db.MustExec("CREATE TABLE t (id " + id + ", a integer, twice integer generated always as (a * 2) stored)")
		s := open("t")
		_, err := s.Load(t.Context())
		require.NoError(t, err)
		columns := row.NewColumns([]string{"twice", "a", "id"}, nil)
		var rows []row.Row
		for i := range 3 {
			r, err := row.Of(columns, int64(-1), int64(i), int64(i))
			require.NoError(t, err)
			rows = append(rows, r)
		}
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: rows}))
		require.Equal(t, []string{"0", "1", "2"}, texts(t, db, "SELECT id FROM t ORDER BY id"))
		require.Equal(t, []string{"0", "2", "4"}, texts(t, db, "SELECT twice FROM t ORDER BY id"))
	})
}

// A Write leaves no setting on the connections of the pool, also after an error.
func TestSessionIsSetBack(t *testing.T) {
	t.Parallel()
	db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
	db.SetMaxOpenConns(1)
	db.MustExec("SET SESSION sql_mode = 'ANSI_QUOTES', time_zone = '+05:00', idle_write_transaction_timeout = 7, collation_connection = latin1_swedish_ci")
	db.MustExec("CREATE TABLE t (id bigint primary key, at timestamp(6) null)")
	settings := func() []string {
		return texts(t, db, "SELECT CONCAT_WS(' ', CONNECTION_ID(), @@sql_mode, @@time_zone, @@idle_write_transaction_timeout, @@collation_connection)")
	}
	before := settings()
	s, err := sqlsink.Upsert(db, "t", "t", sqlsink.Options{})
	require.NoError(t, err)
	_, err = s.Load(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), lab.WaitLimit)
	defer cancel()
	at := single(t, "at", row.Type{Name: "timestamptz", Class: row.Instant}, "2026-01-31T12:00:00.5Z")
	require.NoError(t, s.Write(ctx, source.Batch[row.Row]{To: "1", Records: []row.Row{at}}))
	require.Equal(t, before, settings())
	require.Equal(t, []string{"2026-01-31 17:00:00.500000"}, texts(t, db, "SELECT CAST(at AS CHAR) FROM t"), "the same moment")
	bad := single(t, "at", row.Type{Name: "timestamptz", Class: row.Instant}, "2099-01-31T12:00:00Z")
	require.Error(t, s.Write(ctx, source.Batch[row.Row]{From: "1", To: "2", Records: []row.Row{bad}}))
	require.Equal(t, before, settings())
}

// A pipeline writes the rows that the database refuses to its dead letters, and all others once.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec("CREATE TABLE orders (id " + lab.IDColumn(driver) + ", name varchar(20))")
		for i := range 50 {
			name := fmt.Sprint("name ", i)
			if i%17 == 5 {
				name = "a name of 20 letters"
			}
			db.MustExec(fmt.Sprintf("INSERT INTO orders (name) VALUES ('%s')", name))
		}
		db.MustExec("CREATE TABLE copy (id bigint primary key, name varchar(20), CHECK (name <> 'a name of 20 letters'))")
		s, err := sqlsink.Insert(db, "orders", "copy", sqlsink.Options{})
		require.NoError(t, err)
		letters := &sinktest.Fake[poller.Rejected[row.Row]]{}
		src := lab.Silent(db, "orders", "id")
		ended := source.Func[row.Row](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
			b, err := src.Fetch(ctx, after, limit)
			if err == nil && len(b.Records) == 0 && b.Held == nil && after != "" {
				err = source.ErrEnd
			}
			return b, err
		})
		p := &poller.Poller[row.Row]{Name: "orders", Source: ended, Sink: s, Checkpointer: s, DeadLetter: letters, BatchSize: 20, Logger: slog.New(slog.DiscardHandler)}
		err = p.Run(t.Context())
		require.True(t, err == nil || errors.Is(err, source.ErrEnd), "%v", err)
		require.Len(t, letters.Records(), 3)
		require.Equal(t, []string{"47"}, texts(t, db, "SELECT count(*) FROM copy"))
	})
}
