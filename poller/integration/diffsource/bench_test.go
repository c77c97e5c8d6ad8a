package diffsource

import (
	"context"
	"flag"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/row"
)

var benchRows = flag.Int("diff.rows", 20_000, "how many rows the tables of BenchmarkPass have")

// shapes are tables, as SELECTs from a series i.
var shapes = []struct{ name, columns string }{
	{"reference", `i as id, timestamptz '2026-01-01' + i * interval '1 s' as at, i * 7 as customer, 'note ' || i as note, i / 100.0 as price,
		jsonb_build_object('a', i, 'b', repeat('x', 90)) as data`},
	{"narrow", `i as id, i::int as n`},
	{"wide", `i as id, ` + columns(50)},
	{"large", `i as id, repeat(md5(i::text), 250) as body`},
}

func columns(n int) (list string) {
	for i := range n {
		if i > 0 {
			list += ", "
		}
		list += fmt.Sprintf("i + %d as c%d", i, i)
	}
	return list
}

// BenchmarkPass compares a pass that finds nothing with COPY of the same table. The metric x is the ratio of
// their times, within one run.
func BenchmarkPass(b *testing.B) {
	db := dbtest.Postgres(b).NewDatabase(b).Open(b, dbtest.PGX)
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			rows := *benchRows
			if shape.name == "large" {
				rows /= 20
			}
			db.MustExec(`drop table if exists t`)
			db.MustExec(fmt.Sprintf(`create table t as select %s from generate_series(1, %d::bigint) as i`, shape.columns, rows))
			db.MustExec(`alter table t add primary key (id)`)
			db.MustExec(`vacuum analyze t`)
			s := open(b, db, b.TempDir(), "t", "id")
			began := time.Now()
			at := drain(b, s, "", rows)
			b.ReportMetric(float64(rows)/time.Since(began).Seconds(), "first-rows/s")
			var copied, passed time.Duration
			for b.Loop() {
				began := time.Now()
				copyTable(b, db)
				copied += time.Since(began)
				began = time.Now()
				at = drain(b, s, at, 0)
				passed += time.Since(began)
			}
			b.ReportMetric(passed.Seconds()/copied.Seconds(), "x")
			b.ReportMetric(float64(rows)*float64(b.N)/passed.Seconds(), "rows/s")
		})
	}
}

// drain makes a pass, which must deliver so many changes.
func drain(b *testing.B, s source.Source[row.Change], at source.Cursor, want int) source.Cursor {
	n := 0
	for {
		batch, err := s.Fetch(context.Background(), at, 5000)
		require.NoError(b, err)
		n += len(batch.Records)
		at = batch.To
		if !batch.More {
			require.Equal(b, want, n)
			return at
		}
	}
}

func copyTable(b *testing.B, db *sqlx.DB) {
	conn, err := db.Conn(context.Background())
	require.NoError(b, err)
	defer conn.Close()
	require.NoError(b, conn.Raw(func(c any) error {
		_, err := c.(*stdlib.Conn).Conn().PgConn().CopyTo(context.Background(), io.Discard, `COPY t TO STDOUT`)
		return err
	}))
}

// BenchmarkComparison compares a table with a copy in the same database. The metric x is the ratio to COPY of
// both tables.
func BenchmarkComparison(b *testing.B) {
	db := dbtest.Postgres(b).NewDatabase(b).Open(b, dbtest.PGX)
	for _, key := range []string{"id", "note"} {
		b.Run(key, func(b *testing.B) {
			db.MustExec(`drop table if exists t, copy`)
			db.MustExec(fmt.Sprintf(`create table t as select %s from generate_series(1, %d::bigint) as i`, shapes[0].columns, *benchRows))
			db.MustExec(`create table copy as select * from t`)
			db.MustExec(`alter table t add primary key (` + key + `)`)
			db.MustExec(`alter table copy add primary key (` + key + `)`)
			db.MustExec(`analyze t`)
			db.MustExec(`analyze copy`)
			var copied, compared time.Duration
			for b.Loop() {
				began := time.Now()
				copyTable(b, db)
				copyTable(b, db)
				copied += time.Since(began)
				began = time.Now()
				c := diffsource.Comparison{Source: table(db, "t", key), Copy: table(db, "copy", key)}
				r, err := c.Run(context.Background())
				require.NoError(b, err)
				require.Equal(b, diffsource.Report{Rows: int64(*benchRows)}, r)
				compared += time.Since(began)
			}
			b.ReportMetric(compared.Seconds()/copied.Seconds(), "x")
			b.ReportMetric(float64(*benchRows)*float64(b.N)/compared.Seconds(), "rows/s")
		})
	}
}
