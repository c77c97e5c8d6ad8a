package sqlcheckpoint

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// broken is a database whose data source name cannot be parsed.
type broken struct{}

func (broken) Connect(context.Context) (driver.Conn, error) {
	_, err := url.Parse("postgres://u:hunter2@host:port/\x00")
	return nil, err
}
func (broken) Driver() driver.Driver { return nil }

func database(t *testing.T, driver string) *sqlx.DB {
	db := sqlx.NewDb(sql.OpenDB(broken{}), driver)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestStatements(t *testing.T) {
	t.Parallel()
	for driver, want := range map[string][]string{
		"pgx":     {`FROM "a?"."b""c" WHERE name = $1 FOR UPDATE`, `UPDATE "a?"."b""c" SET cur = $1, writer = $2, seq = $3, saved_at = $4, history = $5 WHERE name = $6 AND writer = $7 AND seq = $8`, `name     TEXT COLLATE "C" NOT NULL PRIMARY KEY`},
		"mysql":   {"FROM `a?`.`b\"c` WHERE name = ? FOR UPDATE", "UPDATE `a?`.`b\"c` SET cur = ?", "cur      VARCHAR(8192) CHARACTER SET ascii COLLATE ascii_bin"},
		"sqlite3": {`FROM "a?"."b""c" WHERE name = ?`, `UPDATE "a?"."b""c" SET cur = ?`, "cur      TEXT NOT NULL"},
	} {
		s, err := New(database(t, driver), "orders", Options{Table: `a?.b"c`})
		require.NoError(t, err, driver)
		assert.True(t, strings.HasSuffix(s.sql.loadLocked, want[0]), s.sql.loadLocked)
		assert.Contains(t, s.sql.update, want[1])
		assert.Contains(t, s.Schema(), want[2])
		assert.Equal(t, driver == "sqlite3", s.sql.lock != "")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	db := database(t, "pgx")
	for want, c := range map[string]struct {
		name string
		o    Options
	}{
		"the name is empty":             {"", Options{}},
		"begins or ends with a blank":   {"orders ", Options{}},
		"not printable ASCII":           {"örders", Options{}},
		"more than 200":                 {strings.Repeat("x", 201), Options{}},
		"Options.History is 1001":       {"orders", Options{History: 1001}},
		"write TABLE or SCHEMA.TABLE":   {"orders", Options{Table: "a.b.c"}},
		"each part must have 1 to 63":   {"orders", Options{Table: "a."}},
		`Options.Table is "a\x00": use`: {"orders", Options{Table: "a\x00"}},
	} {
		_, err := New(db, c.name, c.o)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "sqlcheckpoint: ")
	}
	_, err := New(nil, "orders", Options{})
	require.ErrorContains(t, err, "nil")
	_, err = New(database(t, "odd"), "orders", Options{})
	require.ErrorContains(t, err, "set the field Dialect")
	_, err = New(database(t, "odd"), "orders", Options{Dialect: sqlite.Dialect{}})
	require.NoError(t, err)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	db := database(t, "pgx")
	s, err := New(db, "orders", Options{})
	require.NoError(t, err)
	_, err = s.Load(t.Context())
	require.ErrorContains(t, err, `sqlcheckpoint: "orders": load: `)
	require.NotContains(t, err.Error(), "hunter2")
	var parse *url.Error
	require.ErrorAs(t, err, &parse)

	require.ErrorIs(t, s.Save(t.Context(), "", "a"), poller.ErrConflict, "not loaded")
	require.ErrorContains(t, s.Save(t.Context(), "", "a\n"), "fix the source")
	_, err = s.Advance(t.Context(), db, "", "a")
	require.ErrorContains(t, err, "begin a transaction")
}

func TestHistory(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	r := row{SavedAt: at.Format(timeFormat)} // as Load inserts it
	for i, c := range []source.Cursor{" a  b ", "", "c"} {
		r = r.next(durable.State{Cursor: c, Writer: "w", Seq: int64(i + 1), Time: at}, 3)
	}
	r.Writer = "anna b"
	r = r.next(durable.State{Cursor: "d", Writer: "w", Seq: 4, Time: at}, 4)
	entries, err := r.entries(4)
	require.NoError(t, err)
	require.Equal(t, []Entry{{"d", at, "w"}, {"c", at, "anna_b"}, {"", at, "w"}, {" a  b ", at, "w"}}, entries)
	require.Equal(t, "", r.next(durable.State{}, 1).History)

	r.History = "nonsense"
	_, err = r.entries(4)
	require.ErrorContains(t, err, "line 1 of the history")
}
