package bench

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// BenchmarkAudit reads a table of 500,000 rows of about 250 bytes, as when a
// pipeline catches up: without an Auditor, with one, and with one that looks
// at each Fetch.
func BenchmarkAudit(b *testing.B) {
	db := dbtest.Postgres(b).NewDatabase(b).Open(b, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key, at timestamptz default now(), note text)`)
	db.MustExec(`insert into orders select i, now(), repeat('x', 230) from generate_series(1, 500000) i`)
	db.MustExec(`vacuum analyze orders`)
	for name, audit := range map[string]*sqlsource.Auditor{
		"none": nil, "default": {}, "always": {Rows: 10_000, Every: 1},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}, Audit: audit, Logger: slog.New(slog.DiscardHandler)}
				var c source.Cursor
				rows := 0
				for rows < 500_000 {
					batch, err := table.Fetch(context.Background(), c, 5000)
					require.NoError(b, err)
					rows += len(batch.Records)
					c = batch.To
				}
			}
			b.ReportMetric(500_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkAuditLook is one look at 100,000 keys, as an idle pipeline takes every
// half minute.
func BenchmarkAuditLook(b *testing.B) {
	db := dbtest.Postgres(b).NewDatabase(b).Open(b, dbtest.PGX)
	db.MustExec(`create table orders (id bigint primary key)`)
	db.MustExec(`insert into orders select i from generate_series(1, 100000) i`)
	db.MustExec(`vacuum analyze orders`)
	table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}, Audit: &sqlsource.Auditor{Rows: 100_000, Every: 1},
		Logger: slog.New(slog.DiscardHandler)}
	c, err := table.At(100_000)
	require.NoError(b, err)
	for b.Loop() {
		for range 5 { // a Fetch looks at about 20,000
			_, err := table.Fetch(context.Background(), c, 5000)
			require.NoError(b, err)
		}
	}
}
