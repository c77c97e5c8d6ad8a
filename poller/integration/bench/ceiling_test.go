//go:build unix

package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// The lowest accepted ratio of the throughput with a ceiling to that without, with
// -bench.require.
var minUnguardedRatio = map[string]float64{"Postgres": 0.95, "MariaDB": 0.75}

// BenchmarkCeilingThroughput compares the throughput of reading a backlog with the default
// ceiling and without a ceiling. Each round measures both, in alternating order. With
// -bench.require it fails only if both the median ratio and the ratio of the best times are
// too low, because other work on the machine slows one of the two in some rounds.
func BenchmarkCeilingThroughput(b *testing.B) {
	for _, o := range orders.Tables[:2] {
		b.Run(o.Name, func(b *testing.B) {
			_, db := o.Filled(b, *benchRows)
			_, err := db.Exec("analyze table orders")
			if o.Driver == dbtest.PGX {
				_, err = db.Exec("vacuum analyze orders")
			}
			require.NoError(b, err)
			ways := []ceiling.Ceiling{ceiling.None{}, nil}
			best := [2]float64{math.Inf(1), math.Inf(1)}
			var ratios []float64
			for b.Loop() {
				for round := range *benchRounds + 1 { // the first round is a warm-up
					var took [2]float64
					for i := range ways {
						w := (i + round) % 2
						took[w] = readTable(b, db, ways[w]).Seconds()
						best[w] = min(best[w], took[w])
					}
					if round > 0 {
						ratios = append(ratios, took[0]/took[1])
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ratios), "x-unguarded")
			b.ReportMetric(best[0]/best[1], "x-unguarded-best")
			b.ReportMetric(float64(*benchRows)/best[1]/1000, "krows/s-best")
			b.Logf("%s, %d rows: %.3f to %.3f x the unguarded read", o.Name, *benchRows, slices.Min(ratios), slices.Max(ratios))
			if *benchRequire {
				require.GreaterOrEqual(b, max(median(ratios), best[0]/best[1]), minUnguardedRatio[o.Name], "times the throughput of an unguarded read")
			}
		})
	}
}

func readTable(b *testing.B, db *sqlx.DB, c ceiling.Ceiling) time.Duration {
	b.Helper()
	table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: c, Logger: slog.New(slog.DiscardHandler)}
	rows, began := 0, time.Now()
	for at, done := source.Cursor(""), false; !done; {
		batch, err := table.Fetch(b.Context(), at, 5000)
		require.NoError(b, err)
		rows += len(batch.Records)
		at, done = batch.To, !batch.More && batch.Held == nil
	}
	took := time.Since(began)
	require.Equal(b, *benchRows, rows)
	return took
}

// counter counts the statements of a pgx connection.
type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// BenchmarkCeilingPoll measures the statements and the time of one poll: with nothing new,
// with one new row, and with rows held back; on an idle server, and with 500 other
// connections that hold 10,000 locks on other tables or on this one. "none" is the same
// poll without a ceiling.
func BenchmarkCeilingPoll(b *testing.B) {
	server := dbtest.StartPostgres(b, dbtest.Args("-c", "max_connections=600", "-c", "max_locks_per_transaction=256", "-c", "shared_buffers=64MB"))
	database := server.NewDatabase(b)
	db := database.Open(b, dbtest.PGX)
	db.SetMaxOpenConns(600)
	db.SetMaxIdleConns(600)
	db.MustExec(`create table orders (id bigint generated always as identity primary key, _tx xid8 not null default pg_current_xact_id(), v text);
		create index on orders (_tx, id); insert into orders (v) select md5(i::text) from generate_series(1, 100000) i`)
	for i := range 20 {
		db.MustExec(fmt.Sprintf("create table other_%d (v int)", i))
	}
	var counted counter
	config, err := pgx.ParseConfig(database.DSN(dbtest.PGX))
	require.NoError(b, err)
	config.Tracer = &counted
	reader := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	b.Cleanup(func() { reader.Close() })

	ways := []struct {
		name string
		c    ceiling.Ceiling
		key  []string
	}{{"none", ceiling.None{}, []string{"id"}}, {"lock-fence", postgres.LockFence{}, []string{"id"}}, {"transaction-id", postgres.TransactionID{}, []string{"_tx", "id"}}}
	measure := func(name string, before func()) {
		for _, w := range ways {
			b.Run(name+"/"+w.name, func(b *testing.B) {
				table := &sqlsource.Table{DB: reader, Name: "orders", Key: w.key, Ceiling: w.c, Logger: slog.New(slog.DiscardHandler)}
				at := settle(b, table, "")
				counted.n.Store(0)
				for b.Loop() {
					b.StopTimer()
					before()
					b.StartTimer()
					batch, err := table.Fetch(b.Context(), at, 5000)
					if err != nil {
						b.Fatal(err)
					}
					at = batch.To
				}
				b.ReportMetric(float64(counted.n.Load())/float64(b.N), "statements/poll")
			})
		}
	}
	nothing := func() {}
	one := func() { db.MustExec(`insert into orders (v) values ('x')`) }
	measure("quiet/idle", nothing)
	measure("quiet/row", one)

	for range 500 {
		tx, err := db.Begin()
		require.NoError(b, err)
		defer tx.Rollback()
		for i := range 20 {
			_, err := tx.Exec(fmt.Sprintf("lock table other_%d in row exclusive mode", i))
			require.NoError(b, err)
		}
	}
	var locks int
	require.NoError(b, db.Get(&locks, `select count(*) from pg_locks`))
	require.GreaterOrEqual(b, locks, 10_000)
	measure("500 connections, 10000 locks/idle", nothing)
	measure("500 connections, 10000 locks/row", one)
	held, err := db.Begin()
	require.NoError(b, err)
	defer held.Rollback()
	_, err = held.Exec(`insert into orders (v) values ('held')`)
	require.NoError(b, err)
	one()
	measure("500 connections, 10000 locks/held", nothing)
}

// settle reads until nothing more is available.
func settle(b *testing.B, table *sqlsource.Table, at source.Cursor) source.Cursor {
	b.Helper()
	for {
		batch, err := table.Fetch(b.Context(), at, 5000)
		require.NoError(b, err)
		at = batch.To
		if !batch.More && (batch.Held == nil || strings.HasPrefix(batch.Held.By[0], "pid")) {
			return at
		}
	}
}
