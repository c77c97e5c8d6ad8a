package main_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

// An audit without writers shows nothing. It needs no directory, and finds a row
// whose id was drawn in an earlier transaction.
func TestAudit(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 5)
	p := succeeds(t, append(args, "-audit", "100ms")...)
	prints(t, p, `below the ceiling \(lock-fence\): 0 rows read, 0 late`, `No row was added: this shows nothing\.`)
	require.Empty(t, p.stderr.String())

	deadline := time.Now().Add(patience)
	for {
		p := start(t, nil, append(args, "-audit", "2s")...)
		for running := true; running; {
			var drawn int64
			require.NoError(t, db.Get(&drawn, `SELECT nextval('orders_id_seq')`))
			order(db, 1)
			select {
			case <-p.ended:
				running = false
			case <-time.After(300 * time.Millisecond): // by then the row above is read
				db.MustExec(`INSERT INTO orders VALUES ($1, 'late')`, drawn)
			}
		}
		if p.code() == 4 {
			prints(t, p, `below the ceiling \(lock-fence\): \d+ rows read, \d+ late: id \d+.*`, `The ceiling did not hold: .*`)
			break
		}
		require.Equal(t, 0, p.code())
		require.True(t, time.Now().Before(deadline), "%s", &p.stdout)
	}
}

// An audit that the database ends early prints its findings, and then the error.
func TestAuditThatEndsEarly(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 5)
	deadline := time.Now().Add(patience)
	for {
		p := start(t, nil, append(args, "-audit", "1h")...)
		for range 10 {
			var drawn int64
			require.NoError(t, db.Get(&drawn, `SELECT nextval('orders_id_seq')`))
			order(db, 1)
			polled(t, db) // the row above is read then
			db.MustExec(`INSERT INTO orders VALUES ($1, 'late')`, drawn)
		}
		db.MustExec(`ALTER TABLE orders RENAME TO gone`)
		code := p.code()
		db.MustExec(`ALTER TABLE gone RENAME TO orders`)
		if code == 4 && strings.Contains(p.stdout.String(), "late: id ") {
			prints(t, p, `below the ceiling \(lock-fence\): \d+ rows read, \d+ late: id \d+.*`, `The ceiling did not hold: .*`)
			require.Regexp(t, "^dbtofile: the check failed; then the audit ended early: [^\n]+\n$", p.stderr.String())
			break
		}
		if code != 4 { // with 4 it was cut off before it had found the key
			require.Equal(t, 1, code)
			require.NotContains(t, p.stderr.String(), "the check failed")
		}
		require.True(t, time.Now().Before(deadline), "%s", &p.stdout)
	}
}

// polled waits until the audit has begun statements at three later moments.
func polled(t *testing.T, db *sqlx.DB) {
	t.Helper()
	for range 3 {
		var now time.Time
		require.NoError(t, db.Get(&now, `SELECT clock_timestamp()`))
		require.Eventually(t, func() bool {
			var n int
			err := db.Get(&n, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
				AND query NOT LIKE '%pg_stat_activity%' AND query_start > $1`, now)
			return err == nil && n > 0
		}, patience, 10*time.Millisecond)
	}
}

// A table that is refused is refused in the words of -check, with the statements that fix it.
func TestAuditRefuses(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 5)
	db.MustExec(`ALTER SEQUENCE orders_id_seq CACHE 20`)
	p := run(t, nil, append(args, "-audit", "1s")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "dbtofile: orders: rows would be missed with the ceiling lock-fence\n")
	require.Contains(t, p.stderr.String(), "ALTER SEQUENCE public.orders_id_seq CACHE 1;\n")
}

// Each error is one line, also where the driver lists its attempts to connect.
func TestAnErrorIsOneLine(t *testing.T) {
	t.Parallel()
	args := []string{"-dsn", "postgres://ada@127.0.0.1:1/shop?sslmode=prefer", "-table", "orders", "-key", "id"}
	for _, action := range [][]string{{"-check"}, {"-audit", "1h"}} {
		p := run(t, nil, append(args, action...)...)
		require.Equal(t, 1, p.code())
		require.Regexp(t, "^dbtofile: cannot connect: [^\n]+: connection refused\n$", p.stderr.String())
	}
	p := start(t, nil, append(args, "-out", t.TempDir())...)
	p.says("failing, will retry", 1)
	require.NotContains(t, p.stderr.String(), `\t`)
}
