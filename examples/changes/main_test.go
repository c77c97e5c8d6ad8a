package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// start runs the program until stop is called.
func start(t *testing.T, s settings) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, s) }()
	return func() error { cancel(); return <-ended }
}

// arrives waits until a change is in the files.
func arrives(t *testing.T, s settings, part string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		text := ""
		paths, err := filepath.Glob(filepath.Join(s.out, "changes-*"))
		require.NoError(c, err)
		for _, path := range paths {
			lines, err := os.ReadFile(path)
			require.NoError(c, err)
			text += string(lines)
		}
		assert.Equal(c, 1, strings.Count(text, part), "in %s", text)
	}, 5*time.Minute, 20*time.Millisecond, part)
}

// edit changes the only row, and waits for each change.
func edit(t *testing.T, db *sqlx.DB, s settings, existing string) {
	t.Helper()
	arrives(t, s, `{"op":"`+existing+`","table":"`+s.table+`","key":{"id":1},"row":{"id":1,"state":"open"}`)
	db.MustExec(`UPDATE orders SET state = 'paid'`)
	arrives(t, s, `"key":{"id":1},"row":{"id":1,"state":"paid"}`)
	db.MustExec(`DELETE FROM orders`)
	arrives(t, s, `{"op":"delete","table":"`+s.table+`","key":{"id":1}`)
}

func shop(t *testing.T) (*sqlx.DB, settings) {
	s := settings{table: "orders", key: []string{"id"}, out: t.TempDir(), dsn: filepath.Join(t.TempDir(), "shop.db"), every: time.Millisecond}
	db, err := sqlx.Open("sqlite3", s.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.MustExec(`CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT)`)
	db.MustExec(`INSERT INTO orders VALUES (1, 'open')`)
	return db, s
}

func TestCompare(t *testing.T) {
	db, s := shop(t)
	s.by = "compare"
	stop := start(t, s)
	edit(t, db, s, "upsert")
	require.NoError(t, stop())
}

// A scan works with SELECT alone.
func TestScan(t *testing.T) {
	database := dbtest.StartPostgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TABLE orders (id int PRIMARY KEY, state text)`)
	db.MustExec(`INSERT INTO orders VALUES (1, 'open')`)
	db.MustExec(`CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON orders TO reader`)
	_, server, _ := strings.Cut(database.DSN(dbtest.PGX), "@")
	s := settings{by: "scan", table: "public.orders", key: []string{"id"}, out: t.TempDir(), dsn: "postgres://reader:reader@" + server, every: time.Millisecond}
	stop := start(t, s)
	edit(t, db, s, "upsert")
	require.NoError(t, stop())
}

// statements returns the statements that the program prints.
func statements(t *testing.T, s settings) string {
	err := run(t.Context(), s)
	require.ErrorContains(t, err, "run these statements")
	_, script, _ := strings.Cut(err.Error(), "\n\n")
	return script
}

func TestTriggers(t *testing.T) {
	db, s := shop(t)
	s.by = "triggers"
	db.MustExec(statements(t, s))
	stop := start(t, s)
	edit(t, db, s, "upsert")
	require.NoError(t, stop())
}

func TestLog(t *testing.T) {
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "wal_level=logical"))
	database := server.NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TABLE orders (id int PRIMARY KEY, state text)`)
	db.MustExec(`INSERT INTO orders VALUES (1, 'open')`)
	s := settings{by: "log", table: "public.orders", key: []string{"id"}, out: t.TempDir(), dsn: database.DSN(dbtest.PGX)}
	db.MustExec(statements(t, s))
	stop := start(t, s)
	edit(t, db, s, "upsert")
	require.NoError(t, stop())
}

func TestUnknownMeans(t *testing.T) {
	_, s := shop(t)
	s.by = "magic"
	require.ErrorContains(t, run(t.Context(), s), "want compare, scan, triggers or log")
}

func TestWrongDatabase(t *testing.T) {
	_, s := shop(t)
	for _, s.by = range []string{"scan", "log"} {
		require.ErrorContains(t, run(t.Context(), s), "-by "+s.by+" reads Postgres only")
	}
}
