package main_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// eachDatabase runs a test with a table orders (id, name) on each database.
func eachDatabase(t *testing.T, f func(t *testing.T, db *sqlx.DB, args []string)) {
	for name, d := range servers(t) {
		driver := d.Drivers()[0]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, d.Open(t, driver), []string{"-dsn", d.DSN(driver), "-table", "orders", "-key", "id"})
		})
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		db, dsn := shop(t, 0)
		f(t, db, []string{"-dsn", dsn, "-table", "orders", "-key", "id"})
	})
}

func TestWhere(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB, args []string) {
		db.MustExec(`INSERT INTO orders (name) VALUES ('a'), ('b'), ('a')`)
		dir := t.TempDir()
		args = append(args, "-out", dir, "-where", "t.name = 'a' -- the first kind")
		succeeds(t, append(args, "-once")...)
		require.Equal(t, `{"id":1,"name":"a"}`+"\n"+`{"id":3,"name":"a"}`+"\n", content(t, dir, ".jsonl"))
		succeeds(t, append(args, "-verify")...)
		p := run(t, nil, append(args, "-once", "-where", "t.nosuch = 1", "-out", t.TempDir())...)
		require.Equal(t, 1, p.code())
		require.Contains(t, p.stderr.String(), "nosuch")
	})
}

// The rows of a SELECT, with the ceiling of the table that has the key.
func TestSelect(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB, args []string) {
		db.MustExec(`CREATE TABLE notes (order_id bigint NOT NULL, note varchar(100))`)
		db.MustExec(`INSERT INTO orders (name) VALUES ('a'), ('b'), ('c')`)
		db.MustExec(`INSERT INTO notes VALUES (1, 'first'), (3, NULL)`)
		dir := t.TempDir()
		args = append(args, "-out", dir, "-select", "SELECT o.id, o.name, n.note FROM orders o JOIN notes n ON n.order_id = o.id -- each has one")
		p := succeeds(t, append(args, "-once")...)
		require.Equal(t, `{"id":1,"name":"a","note":"first"}`+"\n"+`{"id":3,"name":"c","note":null}`+"\n", content(t, dir, ".jsonl"))
		require.Regexp(t, "msg=guarantee", p.stderr.String())
		db.MustExec(`INSERT INTO orders (name) VALUES ('d')`)
		db.MustExec(`INSERT INTO notes VALUES (4, 'x')`)
		succeeds(t, append(args, "-once")...)
		require.Equal(t, 3, strings.Count(content(t, dir, ".jsonl"), "\n"))
		succeeds(t, append(args, "-verify")...)
		succeeds(t, append(args, "-check")...)
		p = run(t, nil, append(args, "-once", "-select", "SELECT name FROM orders", "-out", t.TempDir())...)
		require.Equal(t, 1, p.code(), "without the key")
	})
}

// A row that is too large goes to the dead letters with its key, is listed, and is
// replayed when it fits.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB, args []string) {
		if db.DriverName() != "sqlite3" {
			kind := map[string]string{"pgx": "ALTER COLUMN name TYPE text", "mysql": "MODIFY name longtext"}[db.DriverName()]
			db.MustExec("ALTER TABLE orders " + kind)
		}
		large := strings.Repeat("x", 50_000)
		for _, name := range []string{"small", large, "small", large} {
			db.MustExec(db.Rebind(`INSERT INTO orders (name) VALUES (?)`), name)
		}
		dir, dead := t.TempDir(), filepath.Join(t.TempDir(), "dead")
		args = append(args, "-out", dir)
		p := run(t, nil, append(args, "-once", "-max-row-bytes", "20000")...)
		require.Equal(t, 1, p.code())
		require.Regexp(t, `id = \W?2\b|id 2\b`, p.stderr.String())
		require.NotContains(t, p.stderr.String(), large)
		p = run(t, nil, append(args, "-letters", "-dead-letter", dead)...)
		require.Equal(t, 1, p.code(), "there is no such directory")

		args = append(args, "-dead-letter", dead)
		p = succeeds(t, append(args, "-once", "-max-row-bytes", "20000")...)
		require.Equal(t, `{"id":1,"name":"small"}`+"\n"+`{"id":3,"name":"small"}`+"\n", content(t, dir, ".jsonl"))
		require.NotContains(t, p.stderr.String(), large)
		p = succeeds(t, append(args, "-letters")...)
		prints(t, p, `\S+Z +[0-9a-f]{32} +id 2 .*`, `\S+Z +[0-9a-f]{32} +id 4 .*`, `2 rows`)

		p = run(t, nil, append(args, "-replay", "-max-row-bytes", "20000")...)
		require.Equal(t, 1, p.code(), "not fixed yet")
		db.MustExec(`DELETE FROM orders WHERE id = 4`)
		p = succeeds(t, append(args, "-replay")...)
		prints(t, p, `no longer in the table: id 4 \(letter [0-9a-f]{32}\)`, `replayed 1 rows to `+filepath.Join(dead, "replayed"))
		var row struct {
			ID   int
			Name string
		}
		require.NoError(t, json.Unmarshal([]byte(content(t, filepath.Join(dead, "replayed"), ".jsonl")), &row))
		require.Equal(t, 2, row.ID)
		require.Equal(t, large, row.Name)
		p = succeeds(t, append(args, "-replay")...)
		prints(t, p, `replayed 0 rows to .*`)
	})
}

// An outage that does not pass, and what waiting does not change.
func TestOnceEnds(t *testing.T) {
	t.Parallel()
	p := run(t, nil, "-dsn", "postgres://ada:hunter2@127.0.0.1:1/shop", "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once", "-timeout", "100ms")
	require.Equal(t, 6, p.code(), "%s", &p.stderr)
	require.Regexp(t, `dbtofile: poller: orders: fetch.*attempts: .*connection refused`, p.stderr.String())

	// The service gives up only when it is told to.
	p = run(t, []string{"TIMEOUT=100ms"}, "-dsn", "mysql://ada:hunter2@127.0.0.1:1/shop", "-table", "orders", "-key", "id", "-out", t.TempDir())
	require.Equal(t, 6, p.code(), "%s", &p.stderr)

	full := dbtest.StartPostgres(t, dbtest.Args("-c", "max_connections=4", "-c", "superuser_reserved_connections=0")).NewDatabase(t)
	takeConnections(t, full)
	p = run(t, nil, "-dsn", full.DSN(dbtest.PGX), "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once", "-timeout", "2s")
	require.Equal(t, 6, p.code(), "%s", &p.stderr)
	require.Regexp(t, `dbtofile: poller: orders: fetch.*attempts: .*53300`, p.stderr.String())

	// Setup that is wrong ends it at once, however long -timeout is.
	broken := filepath.Join(t.TempDir(), "broken.db")
	require.NoError(t, os.WriteFile(broken, []byte(strings.Repeat("no database ", 1000)), 0o600))
	closed := dbtest.Postgres(t).NewDatabase(t)
	dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX).MustExec(`ALTER DATABASE "` + closed.Name() + `" ALLOW_CONNECTIONS false`)
	for dsn, want := range map[string]string{
		"sqlite:" + broken:     "NOTADB",
		closed.DSN(dbtest.PGX): "SQLSTATE 55000",
		dbtest.MariaDB(t).NewDatabase(t).DSN(dbtest.MySQLText) + "?tls=true":                        "TLS",
		strings.Replace(dbtest.Postgres(t).NewDatabase(t).DSN(dbtest.PGX), "disable", "require", 1): "TLS",
	} {
		p = run(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once", "-timeout", "5m")
		require.Equal(t, 1, p.code(), "%s", &p.stderr)
		require.Contains(t, p.stderr.String(), want)
	}
}

// takeConnections opens connections until the server has no more.
func takeConnections(t *testing.T, d dbtest.Database) {
	t.Helper()
	for range 20 {
		db, err := sqlx.Open(dbtest.PGX.SQLName(), d.DSN(dbtest.PGX))
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		if err := db.Ping(); err != nil {
			require.ErrorContains(t, err, "53300")
			return
		}
	}
	require.Fail(t, "the server still has connections")
}

// A row whose stamp lies in the future is held back. -once copies the others, and ends with exit code 3
// and the name of the ceiling's reason. If no row can be read until an hour has passed, that is an error.
func TestOnceWithAStampInTheFuture(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[string]struct {
		code, rows int
		says       string
	}{
		"50 minutes": {3, 1, `records are still held back, since .*, by a stamp ahead of the server's clock by [45]\dm`},
		"5 days":     {1, 0, `rows have a "at" up to .*, ahead of the server's clock`},
	} {
		t.Run(ahead, func(t *testing.T) {
			t.Parallel()
			d := dbtest.Postgres(t).NewDatabase(t)
			db := d.Open(t, dbtest.PGX)
			db.MustExec(`CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp()); CREATE INDEX ON orders (at, id)`)
			db.MustExec(`INSERT INTO orders VALUES (1, DEFAULT), (2, clock_timestamp() + interval '` + ahead + `')`)
			dir := t.TempDir()
			p := run(t, nil, "-dsn", d.DSN(dbtest.PGX), "-table", "orders", "-key", "at,id", "-ceiling", "stamp", "-out", dir, "-once")
			require.Equal(t, want.code, p.code(), "%s", &p.stderr)
			require.Regexp(t, want.says, p.stderr.String())
			require.Equal(t, want.rows, strings.Count(content(t, dir, ".jsonl"), "\n"))
		})
	}
}

// With -must-exist an output directory that is not mounted is not taken for a new one.
func TestMustExist(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 3)
	dir := t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once"}
	p := run(t, nil, append(args, "-must-exist")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), dir)
	require.Empty(t, files(t, dir, "*"))
	succeeds(t, args...)
	succeeds(t, append(args, "-must-exist")...)

	dead := t.TempDir() // a mount point that is not mounted
	args = append(args[:len(args)-1:len(args)-1], "-dead-letter", dead, "-must-exist")
	for _, action := range []string{"-once", "-letters", "-replay"} {
		p := run(t, nil, append(args, action)...)
		require.Equal(t, 1, p.code(), action)
		require.Contains(t, p.stderr.String(), "dbtofile: ")
		require.Contains(t, p.stderr.String(), "checkpoint", action)
		require.Empty(t, files(t, dead, "*"), action)
	}
	succeeds(t, append(args[:len(args)-1:len(args)-1], "-once")...)
	for _, action := range []string{"-once", "-letters", "-replay"} {
		succeeds(t, append(args, action)...)
	}
}

// A server that accepts connections and never answers is an outage, which -timeout limits
// in each attempt.
func TestASilentServer(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the backlog accepts
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	db, dsn := shop(t, 3)
	db.MustExec(`INSERT INTO orders (name) VALUES (?)`, strings.Repeat("x", 50_000))
	dir, dead := t.TempDir(), filepath.Join(t.TempDir(), "dead")
	args := []string{"-table", "orders", "-key", "id"}
	succeeds(t, append(args, "-dsn", dsn, "-out", dir, "-dead-letter", dead, "-once", "-max-row-bytes", "20000")...)
	for _, dsn := range []string{"mysql://ada:hunter2@%s/shop?timeout=1h", "postgres://ada:hunter2@%s/shop?connect_timeout=3600"} {
		args := append(args, "-dsn", fmt.Sprintf(dsn, silent.Addr()), "-timeout", "1s", "-deadline", "1h")
		for action, code := range map[string]int{"-once": 6, "-replay": 6, "-check": 1, "-verify": 1} {
			t.Run(action, func(t *testing.T) {
				t.Parallel()
				out, letters := dir, filepath.Join(t.TempDir(), "dead") // another one for each case, because a directory has one writer
				switch action {
				case "-once":
					out = t.TempDir()
				case "-replay":
					require.NoError(t, os.CopyFS(letters, os.DirFS(dead)))
				}
				args := append(args[:len(args):len(args)], "-out", out, "-dead-letter", letters, action)
				p := run(t, nil, args...)
				require.Equal(t, code, p.code(), "%s", &p.stderr)
				require.Regexp(t, "no answer within|deadline exceeded|timeout", p.stderr.String())
			})
		}
	}
}

// A rotated password is used at the next connect.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 5)
	role := "copier_" + strings.ToLower(rand.Text())
	db.MustExec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'first'; GRANT SELECT ON orders TO ` + role + `; GRANT SELECT ON orders_id_seq TO ` + role)
	t.Cleanup(func() { db.MustExec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	as := func(password string) []byte {
		_, rest, _ := strings.Cut(args[1], "@")
		return []byte("postgres://" + role + ":" + password + "@" + rest)
	}
	file, dir := filepath.Join(t.TempDir(), "dsn"), t.TempDir()
	require.NoError(t, os.WriteFile(file, as("first"), 0o666))
	require.NoError(t, os.Chmod(file, 0o666))
	p := start(t, nil, append(args[2:], "-dsn-file", file, "-out", dir, "-interval", "10ms", "-segment-age", "50ms")...)
	require.Eventually(t, func() bool { return content(t, dir, ".jsonl") == sold(1, 5) }, patience, 10*time.Millisecond)
	require.Contains(t, p.stderr.String(), `level=WARN msg="DSN file is open to other users" pipeline=orders path=`+file+` mode=-rw-rw-rw-`)

	db.MustExec(`ALTER ROLE ` + role + ` PASSWORD 'second'`)
	kill := func() {
		db.MustExec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1`, role)
	}
	kill()
	p.says("failing, will retry", 1)
	order(db, 5)
	require.NoError(t, os.WriteFile(file, as("second"), 0o600))
	require.Eventually(t, func() bool { return content(t, dir, ".jsonl") == sold(1, 10) }, patience, 10*time.Millisecond)
	p.says("msg=recovered", 1)
	p.stopsWell()
	require.NotContains(t, p.stderr.String(), "second")
	require.NotContains(t, p.stderr.String(), "first\n")
}

func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 0)
	for table, want := range map[string]string{"таблица": `table_[0-9a-f]{8}`, "größe": `gr__e_[0-9a-f]{8}`, "order lines": "order_lines", "日本": `table_[0-9a-f]{8}`} {
		db.MustExec(`CREATE TABLE "` + table + `" (id INTEGER PRIMARY KEY AUTOINCREMENT)`)
		db.MustExec(`INSERT INTO "` + table + `" DEFAULT VALUES`)
		dir := t.TempDir()
		succeeds(t, "-dsn", dsn, "-table", table, "-key", "id", "-out", dir, "-once")
		require.Regexp(t, "^"+want+`-0000000001\.jsonl$`, filepath.Base(files(t, dir, ".jsonl")[0]))
	}
}

// Rows that wait are waited for, and never passed over in silence.
func TestOnceWaitsForRowsThatAreHeldBack(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB, args []string) {
		db.MustExec(`CREATE TABLE changes (at bigint NOT NULL PRIMARY KEY)`)
		for i := range int64(3) {
			db.MustExec(fmt.Sprintf(`INSERT INTO changes VALUES (%d)`, time.Now().UnixMicro()+i))
		}
		dir := t.TempDir()
		succeeds(t, append(args, "-table", "changes", "-key", "at", "-out", dir, "-once", "-ceiling", "stamp=1s")...)
		require.Equal(t, 3, strings.Count(content(t, dir, ".jsonl"), "\n"))
	})
}
