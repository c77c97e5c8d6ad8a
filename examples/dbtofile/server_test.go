package main_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz NOT NULL, customer bigint, note text, total numeric(12,2), attrs jsonb)`)
	db.MustExec(`INSERT INTO orders (at, customer, note, total, attrs)
		SELECT timestamptz '2026-01-31 12:00:00+02' + i * interval '1.5 s', 9007199254740993 + i, 'note "' || i || '"', i + 0.5, jsonb_build_object('n', i)
		FROM generate_series(1, 2000) i`)
	db.MustExec(`INSERT INTO orders (at) VALUES ('2026-02-01')`)
	var want strings.Builder
	for i := 1; i <= 2000; i++ {
		s := 36000*2 + 3*i // in half seconds since midnight UTC
		at := fmt.Sprintf("2026-01-31T%02d:%02d:%02d", s/7200, s/120%60, s/2%60)
		if s%2 == 1 {
			at += ".5"
		}
		fmt.Fprintf(&want, `{"id":%d,"at":"%sZ","customer":%d,"note":"note \"%d\"","total":%d.50,"attrs":{"n": %d}}`+"\n", i, at, 9007199254740993+i, i, i, i)
	}
	want.WriteString(`{"id":2001,"at":"2026-02-01T00:00:00Z","customer":null,"note":null,"total":null,"attrs":null}` + "\n")

	dsn := d.DSN(dbtest.PGX)
	for _, dsn := range []string{dsn, strings.Replace(dsn, "postgres:", "postgresql:", 1)} {
		dir := t.TempDir()
		succeeds(t, "-dsn", dsn, "-table", "public.orders", "-key", "id", "-out", dir, "-once", "-batch", "300", "-segment-bytes", "50000", "-name", "orders")
		same(t, want.String(), content(t, dir, ".jsonl"))
	}
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	db := d.Open(t, dbtest.MySQL)
	db.MustExec("CREATE TABLE `order lines` (`order` bigint unsigned NOT NULL, line int NOT NULL, at datetime(3), total decimal(12,2), PRIMARY KEY (`order`, line))")
	db.MustExec("INSERT INTO `order lines` SELECT 18446744073709551615 - 3000 + seq DIV 3, seq % 3, '2026-01-31 12:00:00.125', seq + 0.5 FROM seq_1_to_3000")
	var want strings.Builder
	for i := 1; i <= 3000; i++ {
		fmt.Fprintf(&want, `{"order":%d,"line":%d,"at":"2026-01-31T12:00:00.125","total":%d.50}`+"\n", uint64(math.MaxUint64)-3000+uint64(i/3), i%3, i)
	}

	own := d.DSN(dbtest.MySQLText) // user:password@tcp(host:port)/database
	login, rest, _ := strings.Cut(own, "@tcp(")
	for _, dsn := range []string{own, d.DSN(dbtest.MySQL), "mysql://" + own, "mysql://" + login + "@" + strings.Replace(rest, ")", "", 1), "mariadb://" + login + "@" + strings.Replace(rest, ")", "", 1)} {
		dir := t.TempDir()
		succeeds(t, "-dsn", dsn, "-table", "order lines", "-key", "order,line", "-out", dir, "-once", "-batch", "700", "-ceiling", "none")
		same(t, want.String(), content(t, dir, ".jsonl"))
		require.Contains(t, files(t, dir, ".jsonl")[0], "order_lines-0000000001.jsonl")
	}
}

func TestADatabaseThatIsDownAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	d := server.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TABLE orders (id bigserial PRIMARY KEY, name text)`)
	db.MustExec(`INSERT INTO orders (name) VALUES ('order 1'), ('order 2')`)
	require.NoError(t, server.Stop())

	dir := t.TempDir()
	p := start(t, nil, "-dsn", d.DSN(dbtest.PGX), "-table", "orders", "-key", "id", "-out", dir, "-once")
	p.says("failing, will retry", 1)
	require.NoError(t, server.Start())
	require.Equal(t, 0, p.code(), "%s", &p.stderr)
	require.Contains(t, p.stderr.String(), "msg=recovered")
	same(t, sold(1, 2), content(t, dir, ".jsonl"))
}

// An outage during the copy, and a stop during an outage.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	d := server.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.SetMaxIdleConns(0) // keep no connection from before the outage
	db.MustExec(`CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)`)
	sell(db, 1, 10)
	dir := t.TempDir()
	args := []string{"-dsn", d.DSN(dbtest.PGX), "-table", "orders", "-key", "id", "-out", dir, "-interval", "10ms"}
	p := start(t, nil, append(args, "-segment-age", "50ms")...)
	orders := func() (lines string) { // a killed server skips some numbers
		require.NoError(t, db.Get(&lines, `SELECT string_agg('{"id":' || id || ',"name":"' || name || '"}' || chr(10), '' ORDER BY id) FROM orders`))
		return lines
	}
	arrive := func(n int) {
		want := orders()
		require.Equal(t, n, strings.Count(want, "\n"))
		require.Eventually(t, func() bool { return content(t, dir, ".jsonl") == want }, patience, 10*time.Millisecond)
	}
	arrive(10)
	require.NoError(t, server.Kill())
	p.says("failing, will retry", 1)
	require.NoError(t, server.Start())
	p.says("msg=recovered", 1)
	sell(db, 11, 20)
	arrive(20)

	require.NoError(t, server.Stop())
	p.says("failing, will retry", 2)
	p.stopsWell()
	require.NoError(t, server.Start())
	sell(db, 21, 30)
	succeeds(t, append(args, "-once")...)
	require.Equal(t, 30, strings.Count(orders(), "\n"))
	same(t, orders(), content(t, dir, ".jsonl"))
}

// A TIMESTAMP reads in the time zone of the session. In one with daylight saving time
// an hour repeats, which as a key would lose rows.
func TestMariaDBInAnotherTimeZone(t *testing.T) {
	t.Parallel()
	d := dbtest.StartMariaDB(t, dbtest.Args("--default-time-zone=+05:00")).NewDatabase(t)
	db := d.Open(t, dbtest.MySQL)
	db.MustExec("CREATE TABLE events (at timestamp(6) PRIMARY KEY)")
	db.MustExec("INSERT INTO events VALUES ('2026-01-31 12:00:00.5'), ('2026-01-31 13:00:00')")
	dir := t.TempDir()
	succeeds(t, "-dsn", d.DSN(dbtest.MySQLText), "-table", "events", "-key", "at", "-out", dir, "-once", "-ceiling", "none")
	same(t, `{"at":"2026-01-31T07:00:00.5"}`+"\n"+`{"at":"2026-01-31T08:00:00"}`+"\n", content(t, dir, ".jsonl"))
}
