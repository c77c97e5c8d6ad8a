package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// texts returns the complete files of a directory by name.
func texts(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	for _, name := range files(t, dir, ".jsonl") {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		all[filepath.Base(name)] = string(b)
	}
	return all
}

func TestRewind(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 10)
	dir := filepath.Join(t.TempDir(), "out")
	args = append(args, "-out", dir)
	p := run(t, nil, append(args, "-rewind", "first")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), dir+" holds no copy")
	require.NoDirExists(t, dir)

	succeeds(t, append(args, "-once")...)
	p = succeeds(t, append(args, "-rewind", "7")...)
	require.Equal(t, `was: orders after id = 10
now: orders after id = "7"
The next start copies the rows after it again, to new files. Complete files stay, so these rows are then in two files.
`, p.stdout.String())
	require.Empty(t, p.stderr.String())
	succeeds(t, append(args, "-once")...)
	require.Equal(t, map[string]string{"orders-0000000001.jsonl": sold(1, 10), "orders-0000000002.jsonl": sold(8, 10)}, texts(t, dir))

	// -rewind first ignores -start. A file is open.
	service := start(t, nil, append(args, "-interval", "10ms", "-segment-age", "0")...)
	order(db, 1)
	open := filepath.Join(dir, "orders-0000000003.jsonl.open")
	require.Eventually(t, func() bool { b, _ := os.ReadFile(open); return string(b) == sold(11, 11) }, patience, 10*time.Millisecond)
	p = run(t, nil, append(args, "-rewind", "first")...)
	require.Equal(t, 1, p.code())
	require.Regexp(t, `the directory is in use by process \d+`, p.stderr.String())
	service.stopsWell()
	p = succeeds(t, append(args, "-rewind", "first", "-start", "latest")...)
	require.Contains(t, p.stdout.String(), "was: orders after id = 11\nnow: orders before the first row\n")
	require.Contains(t, p.stderr.String(), `msg="file complete"`)
	succeeds(t, append(args, "-once", "-start", "latest")...)
	require.Equal(t, map[string]string{"orders-0000000001.jsonl": sold(1, 10), "orders-0000000002.jsonl": sold(8, 10),
		"orders-0000000003.jsonl": sold(11, 11), "orders-0000000004.jsonl": sold(1, 11)}, texts(t, dir))

	p = run(t, nil, append(args, "-key", "id,name", "-rewind", "7")...)
	require.Equal(t, 2, p.code())
	require.Contains(t, p.stderr.String(), "-rewind: want first, or the values of id,name separated by commas")

	// A key that does not fit its column, or that the copy has not passed, changes nothing.
	for key, want := range map[string]string{
		"seven":                `the cursor stays orders after id = 11: .*the database does not accept the cursor's key, id = "seven"`,
		"11":                   `the table has no row after id 11 and up to the cursor, id 11, so nothing would be copied again`,
		"12":                   "the table has no row after id 12",
		"99999999999999999999": "does not fit|does not accept|not an integer",
	} {
		p = run(t, nil, append(args, "-rewind", key)...)
		require.Equal(t, 1, p.code(), key)
		require.Regexp(t, want, p.stderr.String())
		require.Empty(t, p.stdout.String())
	}
	order(db, 1)
	p = run(t, nil, append(args, "-rewind", "11")...)
	require.Equal(t, 1, p.code(), "the new row is not copied yet")
	succeeds(t, append(args, "-once")...)
	require.Equal(t, sold(12, 12), texts(t, dir)["orders-0000000005.jsonl"], "the cursor stayed")
	succeeds(t, append(args, "-rewind", "first")...)
	p = run(t, nil, append(args, "-rewind", "3")...)
	require.Equal(t, 1, p.code(), "forward")
	require.Contains(t, p.stderr.String(), "up to the cursor, before the first row, so nothing would be copied again")
}

func TestRewindSQLite(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 10)
	dir := t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir}
	succeeds(t, append(args, "-once")...)
	succeeds(t, append(args, "-rewind", "4")...)
	succeeds(t, append(args, "-once")...)
	require.Equal(t, map[string]string{"orders-0000000001.jsonl": sold(1, 10), "orders-0000000002.jsonl": sold(5, 10)}, texts(t, dir))
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 10)
	dir := filepath.Join(t.TempDir(), "out")
	args = append(args, "-out", dir)
	p := run(t, nil, append(args, "-adopt")...)
	require.Equal(t, 1, p.code())
	require.NoDirExists(t, dir)
	succeeds(t, append(args, "-once")...)

	// A recreated table whose rows were changed, as by a migration.
	db.MustExec(`ALTER TABLE orders RENAME TO old; CREATE TABLE orders (id bigserial PRIMARY KEY, name text);
		INSERT INTO orders SELECT id, name || '!' FROM old; SELECT setval('orders_id_seq1', 10); DROP TABLE old; ALTER SEQUENCE orders_id_seq1 RENAME TO orders_id_seq`)
	order(db, 2)
	p = run(t, nil, append(args, "-once")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "the table was dropped and recreated, or another table took its name")
	require.Contains(t, p.stderr.String(), "dbtofile -adopt")
	p = run(t, nil, append(args, "-check")...)
	require.Equal(t, 4, p.code())

	p = succeeds(t, append(args, "-adopt")...)
	require.Equal(t, "was: orders after id = 10\nnow: orders after id = 10\nThe copy continues from there, in the database as it is now.\n", p.stdout.String())
	p = succeeds(t, append(args, "-check")...)
	prints(t, p, `pending  2 rows`, `note     the cursor does not contain the database's history: .*`)
	succeeds(t, append(args, "-once")...)
	require.Equal(t, map[string]string{"orders-0000000001.jsonl": sold(1, 10), "orders-0000000002.jsonl": sold(11, 12)}, texts(t, dir))

	// Another server with the same rows, then keys that are used again.
	moved := dbtest.StartPostgres(t).NewDatabase(t)
	there := moved.Open(t, dbtest.PGX)
	there.MustExec(`CREATE TABLE orders (id bigserial PRIMARY KEY, name text)`)
	order(there, 15)
	args[1] = moved.DSN(dbtest.PGX)
	p = run(t, nil, append(args, "-once")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "the cursor was made on the cluster ")
	keeps(t, p)
	require.NotContains(t, p.stderr.String(), moved.Password())
	succeeds(t, append(args, "-adopt")...)
	succeeds(t, append(args, "-once")...)
	require.Equal(t, sold(13, 15), texts(t, dir)["orders-0000000003.jsonl"])

	there.MustExec(`TRUNCATE orders RESTART IDENTITY`)
	order(there, 2)
	p = run(t, nil, append(args, "-once")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "it was set back")
	p = run(t, nil, append(args, "-adopt")...)
	require.Equal(t, 1, p.code(), "adopting would lose rows")
	require.Contains(t, p.stderr.String(), "use -rewind")
	succeeds(t, append(args, "-rewind", "first")...)
	succeeds(t, append(args, "-once")...)
	require.Equal(t, strings.Join([]string{sold(1, 10), sold(11, 12), sold(13, 15), sold(1, 2)}, ""), content(t, dir, ".jsonl"))

	empty := t.TempDir()
	there.MustExec(`DELETE FROM orders`)
	succeeds(t, append(args[:len(args)-1:len(args)-1], empty, "-once")...)
	p = run(t, nil, append(args[:len(args)-1:len(args)-1], empty, "-adopt")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "nothing is copied yet")
}
