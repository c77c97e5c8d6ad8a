package xminsource_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

// A poll of an unchanged table may cost at most maxRatio of COPY of the table, or maxOfScan of a scan that counts the
// rows, where that scan alone costs nearly as much as COPY.
const (
	maxRatio  = 0.2
	maxOfScan = 1.5
)

// shapes are tables of different widths: 254 bytes a row as JSON, an integer pair, and 1 KB.
var shapes = []struct{ name, columns, row string }{
	{"orders", "id bigint PRIMARY KEY, created_at timestamptz, customer_id bigint, title text, amount numeric, doc jsonb",
		`n, timestamptz '2026-01-01' + n * interval '1 second', n % 1000, 'a text of some thirty letters', (n % 10000) / 100.0,
			jsonb_build_object('qty', n % 12, 'note', 'a short note in a document', 'tags', '["red", "green"]'::jsonb)`},
	{"narrow", "id int PRIMARY KEY, n int", "n, n % 100"},
	{"random-key", "id uuid PRIMARY KEY, note text", "md5(n::text)::uuid, repeat('x', 100)"},
	{"wide", "id int PRIMARY KEY, note text", "n, repeat(md5(n::text), 32)"},
}

// BenchmarkPass compares a poll of a table in which nothing has changed with COPY of the table. It fails
// above the limit.
func BenchmarkPass(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			db := dbtest.Postgres(b).NewDatabase(b).Open(b, dbtest.PGX)
			rows := 1_000_000
			if shape.name == "wide" {
				rows = 200_000
			}
			db.MustExec(fmt.Sprintf("CREATE TABLE t (%s)", shape.columns))
			db.MustExec(fmt.Sprintf("INSERT INTO t SELECT %s FROM generate_series(1, %d) AS n", shape.row, rows))
			db.MustExec("VACUUM (ANALYZE, FREEZE) t")
			s := sourceOf(db, "t", "id")
			_, at, _ := poll(b, s, "")
			k := sourceOf(db, "t", "id")
			k.Deletes = &xminsource.Deletes{Dir: b.TempDir()}
			defer k.Close()
			_, keysAt, _ := poll(b, k, "")
			db.MustExec("CREATE TABLE other (id int)")
			var copies, polls, scans, keyCopies, keyPasses []time.Duration
			for b.Loop() {
				copies = append(copies, copyOut(b, db, "t"))
				keyCopies = append(keyCopies, copyOut(b, db, "(SELECT id FROM t)"))
				keyPasses = append(keyPasses, keyPass(b, k, &keysAt))
				scans = append(scans, count(b, db))
				db.MustExec("INSERT INTO other VALUES (1)") // gives out a transaction id
				start := time.Now()
				var rows []string
				rows, at, _ = poll(b, s, at)
				polls = append(polls, time.Since(start))
				require.Empty(b, rows)
			}
			copied, polled, scanned := median(copies), median(polls), median(scans)
			keys := median(keyPasses) - polled
			b.ReportMetric(keys/copied, "keys-x-copy")
			b.ReportMetric(keys/median(keyCopies), "keys-x-copy-keys")
			b.ReportMetric(keys*1e3, "keys-ms")
			b.ReportMetric(polled/copied, "x-copy")
			b.ReportMetric(polled/scanned, "x-count")
			b.ReportMetric(copied*1e3, "copy-ms")
			b.ReportMetric(polled*1e3, "poll-ms")
			if limit := max(maxRatio, maxOfScan*scanned/copied); len(polls) >= 5 && polled/copied > limit {
				b.Errorf("a poll with nothing new takes %.2f of COPY, more than %.2f", polled/copied, limit)
			}
		})
	}
}

// keyPass polls a source that looks for deletes. It reads the row versions, and then the keys.
func keyPass(b *testing.B, s *xminsource.Source, at *source.Cursor) time.Duration {
	_, *at, _ = poll(b, s, *at)
	start := time.Now()
	rows, to, _ := poll(b, s, *at)
	took := time.Since(start)
	require.Empty(b, rows)
	*at = to
	return took
}

// median returns the median in seconds.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return all[len(all)/2].Seconds()
}

// count counts the rows by reading the table's pages in one process, as a poll does.
func count(b *testing.B, db *sqlx.DB) time.Duration {
	conn, err := db.Conn(b.Context())
	require.NoError(b, err)
	defer conn.Close()
	_, err = conn.ExecContext(b.Context(), `SET max_parallel_workers_per_gather = 0; SET enable_indexonlyscan = off`)
	require.NoError(b, err)
	start := time.Now()
	_, err = conn.ExecContext(b.Context(), `SELECT count(*) FROM t`)
	require.NoError(b, err)
	took := time.Since(start)
	_, err = conn.ExecContext(b.Context(), `RESET ALL`)
	require.NoError(b, err)
	return took
}

// copyOut reads a table with COPY and throws it away.
func copyOut(b *testing.B, db *sqlx.DB, what string) time.Duration {
	conn, err := db.Conn(b.Context())
	require.NoError(b, err)
	defer conn.Close()
	start := time.Now()
	require.NoError(b, conn.Raw(func(c any) error {
		_, err := c.(*stdlib.Conn).Conn().PgConn().CopyTo(context.Background(), io.Discard, "COPY "+what+" TO STDOUT")
		return err
	}))
	return time.Since(start)
}
