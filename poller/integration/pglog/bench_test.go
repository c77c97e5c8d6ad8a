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

// BenchmarkToFiles compares a pipeline to durable files, exactly once, with pg_recvlogical of the same
// changes into a file, alternating. Its metric x is the median of the ratios of their speeds.
func BenchmarkToFiles(b *testing.B) {
	tool := recvlogical(b)
	server := start(b)
	d := server.NewDatabase(b)
	db := d.Open(b, dbtest.PGX)
	db.MustExec(`create table t (id bigint primary key, at timestamptz default now(), customer bigint, title text, amount numeric, doc jsonb); create publication p for table t`)
	db.MustExec(`select pg_create_logical_replication_slot(name, 'pgoutput') from unnest(array['ours', 'theirs']) as name`)
	var ratios []float64
	var speed float64
	for n := 0; b.Loop(); n++ {
		db.MustExec(`delete from t`)
		db.MustExec(`select pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn()) from pg_replication_slots`)
		for range 20 { // transactions
			db.MustExec(`insert into t select (select count(*) from t) + i, now(), i, 'a text of some thirty letters', i / 100.0, '{"tags": ["red", "green"], "note": "a short note"}' from generate_series(1, $1::int) i`, *rows/20)
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
		var t, o time.Duration
		if n%2 == 0 {
			t, o = theirs(), ours()
		} else {
			o, t = ours(), theirs()
		}
		ratios = append(ratios, t.Seconds()/o.Seconds())
		speed = float64(*rows) / o.Seconds()
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x")
	b.ReportMetric(speed, "changes/s")
}

func toFiles(b *testing.B, d dbtest.Database) time.Duration {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	files, err := filesink.Open(b.TempDir(), filesink.Options[row.Change]{SegmentAge: -1})
	require.NoError(b, err)
	defer files.Close()
	src := &pglog.Source{DB: d.Open(b, dbtest.PGX), Slot: "ours", Publication: "p", SkipCopy: true}
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
