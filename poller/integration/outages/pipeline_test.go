package outages

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

const (
	interval      = 20 * time.Millisecond
	maxBackoff    = 100 * time.Millisecond // longest backoff
	waitLimit     = lab.WaitLimit          // how long a test waits for an expected event
	shortDeadline = 2 * time.Second        // deadline of a step: hung steps exceed it, others only if the machine stalls
)

// table is a table that one writer keeps inserting into. Only faults of the server itself
// affect the writer's connection.
type table struct {
	t  testing.TB
	db *sqlx.DB

	mu sync.Mutex // one insert at a time, so that rows commit in the order of their keys
	n  int
}

var create = map[dbtest.Driver]string{
	dbtest.PGX:     "create table items (id bigint generated always as identity primary key, note text not null)",
	dbtest.PQ:      "create table items (id bigint generated always as identity primary key, note text not null)",
	dbtest.MySQL:   "create table items (id bigint auto_increment primary key, note longtext not null)",
	dbtest.Modernc: "create table items (id integer primary key autoincrement, note text not null)",
	dbtest.NCruces: "create table items (id integer primary key autoincrement, note text not null)",
}

func newTable(t testing.TB, db *sqlx.DB, driver dbtest.Driver) *table {
	t.Helper()
	db.MustExec(create[driver])
	return &table{t: t, db: db}
}

// keepWriting inserts a few rows from time to time until the test ends or the returned
// function is called. It retries while the server is down; the table shows whether such an
// insert was committed.
func (tb *table) keepWriting() (stop func()) {
	ctx, cancel := context.WithCancel(tb.t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = tb.insert(20+i%40, 200)
			}
		}
	})
	stop = func() { cancel(); writer.Wait() }
	tb.t.Cleanup(stop)
	return stop
}

// insert inserts n rows with one statement. Their notes have size bytes.
func (tb *table) insert(n, size int) error {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.insertLocked(n, size)
}

func (tb *table) insertLocked(n, size int) error {
	values := make([]string, n)
	for i := range values {
		tb.n++
		note := fmt.Sprintf("note %d ", tb.n)
		values[i] = "('" + note + strings.Repeat("x", size-len(note)) + "')"
	}
	_, err := tb.db.Exec("insert into items (note) values " + strings.Join(values, ", "))
	return err
}

// serverFor returns the shared server of a driver.
func serverFor(t testing.TB, driver dbtest.Driver) *dbtest.Server {
	if driver == dbtest.MySQL {
		return dbtest.MariaDB(t)
	}
	return dbtest.Postgres(t)
}

type line struct {
	ID   int64  `db:"id" json:"id"`
	Note string `db:"note" json:"note"`
}

func (tb *table) rows() (all []line) {
	tb.t.Helper()
	require.NoError(tb.t, tb.db.Select(&all, "select id, note from items order by id"))
	return all
}

// pipeline copies a table to files.
type pipeline struct {
	*journal
	t        *testing.T
	table    *table
	source   *sqlsource.Table
	dir      string
	files    *filesink.Dir[row.Row]
	deadline time.Duration
}

// newPipeline creates the pipeline of a table. db connects to the table's database through
// the faulty path.
func newPipeline(t *testing.T, tb *table, db *sqlx.DB) *pipeline {
	t.Helper()
	dir := t.TempDir()
	files, err := filesink.Open(dir, filesink.Options[row.Row]{SegmentRows: 2000})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, files.Close()) })
	return &pipeline{
		t: t, table: tb, journal: &journal{t: t}, dir: dir, files: files, deadline: waitLimit,
		source: &sqlsource.Table{DB: db, Name: "items", Key: []string{"id"}},
	}
}

func (p *pipeline) poller() *poller.Poller[row.Row] {
	return &poller.Poller[row.Row]{
		Name: p.t.Name(), Source: p.source, Sink: p.files, Checkpointer: p.files,
		BatchSize: 100, Interval: interval, Deadline: p.deadline,
		Retry: retry.Policy{Base: 10 * time.Millisecond, Cap: maxBackoff},
		Hooks: p.hooks(), Logger: slog.New(p.journal),
	}
}

// waitForRows waits until rows are delivered.
func (p *pipeline) waitForRows() {
	p.t.Helper()
	now := time.Now()
	p.eventually("rows are delivered", func() bool { return len(p.after(now, poller.OpWrite)) >= 3 })
}

// caughtUp waits until a fetch finds no row. Nobody may insert rows during the call.
func (p *pipeline) caughtUp() {
	p.t.Helper()
	now := time.Now()
	p.eventually("all is delivered", func() bool {
		return slices.ContainsFunc(p.after(now, poller.OpFetch), func(s step) bool { return s.ended && s.Err == nil && s.Records == 0 })
	})
}

// fetching reports whether a fetch is in progress.
func (p *pipeline) fetching() bool {
	return slices.ContainsFunc(p.after(time.Time{}, poller.OpFetch), func(s step) bool { return !s.ended })
}

// finish delivers the remaining rows and requires that the files equal the table, also by package verify.
func (p *pipeline) finish() {
	p.t.Helper()
	require.NoError(p.t, p.poller().Drain(p.t.Context()))
	require.NoError(p.t, p.files.Seal(p.t.Context()))
	var got []line
	segments, err := filepath.Glob(filepath.Join(p.dir, "*.jsonl"))
	require.NoError(p.t, err)
	for _, segment := range segments { // in the order of their names
		text, err := os.ReadFile(segment)
		require.NoError(p.t, err)
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var l line
			require.NoError(p.t, json.Unmarshal(lines.Bytes(), &l))
			got = append(got, l)
		}
		require.NoError(p.t, lines.Err())
	}
	sameLines(p.t, p.table.rows(), got)
	report := lab.Verify(p.t, p.source, p.dir)
	require.True(p.t, report.Equal(), "%s", report)
	p.t.Logf("%d rows in %d segments", len(got), len(segments))
}

// sameLines reports only the first difference, because the slices have thousands of rows.
func sameLines(t *testing.T, want, got []line) {
	t.Helper()
	require.NotEmpty(t, want)
	for i := range min(len(want), len(got)) {
		require.Equal(t, want[i], got[i], "row %d of %d delivered, %d in the table", i, len(got), len(want))
	}
	require.Len(t, got, len(want))
}
