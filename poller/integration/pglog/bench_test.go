package pglog_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/row"
)

var rows = flag.Int("pglog.rows", 200_000, "changes of the benchmark")

// shapes are the tables of the benchmark: how they are made, and what writes one of 20 transactions of $1 changes.
var shapes = []struct{ name, create, write string }{
	{"orders", `create table t (id bigint generated always as identity primary key, at timestamptz default now(), customer bigint, title text, amount numeric, doc jsonb)`,
		`insert into t (customer, title, amount, doc) select i, 'a text of some thirty letters', i / 100.0, '{"tags": ["red", "green"], "note": "a short note"}' from generate_series(1, $1::int) i`},
	{"narrow", `create table t (id bigint generated always as identity primary key, n int)`, `insert into t (n) select i from generate_series(1, $1::int) i`},
	{"wide", `do $$ begin execute 'create table t (id bigint generated always as identity primary key, ' || (select string_agg(format($f$a%s int default %s, b%s text default 'text %s'$f$, i, i, i, i), ', ') from generate_series(1, 15) i) || ')'; end $$`,
		`insert into t (a1) select i from generate_series(1, $1::int) i`},
	{"texts", `create table t (id bigint generated always as identity primary key, body text)`, `insert into t (body) select repeat(md5(i::text), 40) from generate_series(1, $1::int) i`},
	{"updates", `create table t (id bigint primary key, at timestamptz default now(), title text, n int default 0); alter table t replica identity full; insert into t select i, now(), 'a text of some thirty letters' from generate_series(1, 100000) i`,
		`update t set n = n + 1, at = now() where id <= $1::int`},
}

// BenchmarkToFiles compares a pipeline to durable files, exactly once, with pg_recvlogical of the same
// changes into a file, alternating. Its metric x is the median of the ratios of their speeds.
func BenchmarkToFiles(b *testing.B) {
	tool := recvlogical(b)
	server := start(b)
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			d := server.NewDatabase(b)
			db := d.Open(b, dbtest.PGX)
			db.MustExec(shape.create)
			db.MustExec(`create publication p for table t`)
			first := "first_" + shape.name
			db.MustExec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, first)
			for range 20 {
				db.MustExec(shape.write, *rows/20)
			}
			var end string
			require.NoError(b, db.Get(&end, `select pg_current_wal_flush_lsn()::text`))
			theirs := func() time.Duration {
				began := time.Now()
				out, err := exec.Command(tool, "-d", d.DSN(dbtest.PGX), "--slot=theirs", "--start", "--no-loop", "--endpos="+end, "-o", "proto_version=1", "-o", "publication_names=p",
					"-f", filepath.Join(b.TempDir(), "out")).CombinedOutput()
				require.NoError(b, err, string(out))
				return time.Since(began)
			}
			ours := func() time.Duration { return toFiles(b, d) }
			var ratios []float64
			var speed float64
			for n := 0; b.Loop(); n++ {
				db.MustExec(`select pg_copy_logical_replication_slot($1, name) from unnest(array['ours', 'theirs']) as name`, first)
				var t, o time.Duration
				if n%2 == 0 {
					t, o = theirs(), ours()
				} else {
					o, t = ours(), theirs()
				}
				db.MustExec(`select pg_drop_replication_slot(name) from unnest(array['ours', 'theirs']) as name`)
				ratios = append(ratios, t.Seconds()/o.Seconds())
				speed = float64(*rows) / o.Seconds()
			}
			db.MustExec(`select pg_drop_replication_slot($1)`, first)
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "x")
			b.ReportMetric(speed, "changes/s")
		})
	}
}

func toFiles(b *testing.B, d dbtest.Database) time.Duration {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	files, err := filesink.Open(b.TempDir(), filesink.Options[row.Change]{SegmentAge: -1})
	require.NoError(b, err)
	defer files.Close()
	db := d.Open(b, dbtest.PGX)
	defer db.Close()
	src := &pglog.Source{DB: db, Slot: "ours", Publication: "p", SkipCopy: true}
	defer src.Close()
	count := 0
	began := time.Now()
	p := &poller.Poller[row.Change]{Name: "bench", Source: src, Sink: files, Checkpointer: files, BatchSize: 5000, Hooks: poller.Hooks{Poll: func(i poller.PollInfo) {
		src.Saved(i.To)
		if count += i.Records; count >= *rows {
			cancel()
		}
	}}}
	require.NoError(b, p.Run(ctx))
	require.Equal(b, *rows, count)
	return time.Since(began)
}

func recvlogical(b *testing.B) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical")
	if dir := os.Getenv("DBTEST_POSTGRES"); dir != "" {
		found = []string{filepath.Join(dir, "pg_recvlogical")}
	}
	if path, err := exec.LookPath("pg_recvlogical"); err == nil {
		found = append(found, path)
	}
	for _, path := range found {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	const missing = "pg_recvlogical not found: install the package postgresql-client"
	if os.Getenv("CI") == "true" {
		b.Fatal(missing)
	}
	b.Skip(missing)
	return ""
}
