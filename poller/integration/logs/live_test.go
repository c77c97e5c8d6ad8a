package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/asynclog"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/lease"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// notForLogs is in every row, in the errors of drivers, and in the DSN. It must not be
// logged.
const notForLogs = "hunter2"

// leakyError is a driver's error that contains a value of a row.
type leakyError struct{}

func (leakyError) Error() string    { return "duplicate key (" + notForLogs + ")" }
func (leakyError) SQLState() string { return "23505" }

// logRecorder is a slog.Handler that checks each line against LOGS.md.
type logRecorder struct {
	*logRecords
	attrs []slog.Attr
}

type logRecords struct {
	t     *testing.T
	lines []logLine
	types map[string]string
	mu    sync.Mutex
	seen  map[string]int
}

func newLogRecorder(t *testing.T) logRecorder {
	lines, types := logTable(t)
	return logRecorder{logRecords: &logRecords{t: t, lines: lines, types: types, seen: map[string]int{}}}
}

func (logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (r logRecorder) WithGroup(string) slog.Handler          { panic("no line has a group") }
func (r logRecorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	r.attrs = append(slices.Clone(r.attrs), attrs...)
	return r
}

func (r logRecorder) Handle(_ context.Context, line slog.Record) error {
	attrs := slices.Clone(r.attrs)
	line.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[line.Level.String()+" "+line.Message]++
	var keys []string
	for _, a := range attrs {
		a.Value = a.Value.Resolve()
		keys = append(keys, a.Key)
		text := fmt.Sprint(a.Value.Any())
		assert.NotContains(r.t, text, notForLogs, "%q: %s", line.Message, a.Key)
		kind := r.types[a.Key]
		if v := a.Value; kind == "string" && v.Kind() != slog.KindString { // such as an Op or an error
			a.Value = slog.StringValue(text)
		}
		if assert.NotEmpty(r.t, kind, "%q: the key %s", line.Message, a.Key) {
			assert.True(r.t, loggedKeys[kind](a.Value), "%q: %s is %v (%v), LOGS.md says %s", line.Message, a.Key, a.Value, a.Value.Kind(), kind)
		}
	}
	fits := slices.ContainsFunc(r.lines, func(l logLine) bool {
		has := func(k string) bool { return slices.Contains(keys, k) }
		return l.message == line.Message && l.level == line.Level.String() &&
			!slices.ContainsFunc(l.required, func(k string) bool { return !has(k) }) &&
			!slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(l.keys(), k) })
	})
	assert.True(r.t, fits, "not a line of LOGS.md: %v %q %v", line.Level, line.Message, keys)
	return nil
}

// Every log line of a pipeline is in LOGS.md, and none contains a value of a row.
func TestLogsAreAsDocumented(t *testing.T) {
	rec := newLogRecorder(t)
	synctest.Test(t, func(t *testing.T) { logOfALife(t, slog.New(rec)) })
	logOfATable(t, slog.New(rec))
	logOfAHistory(t, slog.New(rec))
	synctest.Test(t, func(t *testing.T) { logOfFiles(t, slog.New(rec)) })
	synctest.Test(t, func(t *testing.T) { logOfAGroup(t, slog.New(rec)) })
	synctest.Test(t, func(t *testing.T) { logOfReplicas(t, slog.New(rec)) })
	synctest.Test(t, func(t *testing.T) { logThatBlocks(t, rec) })
	for _, l := range rec.lines {
		switch l.message {
		case "file complete", "listening", "ended", "DSN file is open to other users": // logged by dbtofile
		case "query plan not available": // needs an outage between two statements
		case "snapshot begun", "snapshot blocks writers", "snapshot lost", "snapshot interrupted", "table read again", "published tables changed", "slot not advanced": // need a server
		default:
			assert.NotZero(t, rec.seen[l.level+" "+l.message], "%s %q was not seen", l.level, l.message)
		}
	}
}

// logOfALife takes a Poller through every change of its state.
func logOfALife(t *testing.T, log *slog.Logger) {
	var src sourcetest.Fake[string]
	var dst sinktest.Fake[string]
	var dead sinktest.Fake[poller.Rejected[string]]
	var mu sync.Mutex
	var fault func() error // returns the error of the next write
	dst.Refuse = func(s string) error {
		if s == "refused "+notForLogs {
			return leakyError{}
		}
		return nil
	}
	p := &poller.Poller[string]{
		Name: "letters", Source: &src, Sink: sinkFunc(func(ctx context.Context, b source.Batch[string]) error {
			mu.Lock()
			f := fault
			mu.Unlock()
			if f != nil {
				if err := f(); err != nil {
					return err
				}
			}
			return dst.Write(ctx, b)
		}), Checkpointer: &pollertest.Checkpointer{}, DeadLetter: &dead, Logger: log,
	}
	during := func(f func() error, d, after time.Duration) {
		mu.Lock()
		fault = f
		mu.Unlock()
		src.Append(notForLogs)
		time.Sleep(d)
		mu.Lock()
		fault = nil
		mu.Unlock()
		time.Sleep(after)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	const poll = 2 * time.Second // within it there is a poll
	for range 20 {
		during(func() error { return leakyError{} }, poll, time.Minute) // some are not logged
	}
	during(func() error { return leakyError{} }, time.Hour, time.Hour)
	during(func() error { time.Sleep(20 * time.Second); return nil }, poll, time.Minute)
	during(func() error { time.Sleep(2 * time.Hour); return nil }, time.Minute, 3*time.Hour)
	src.Append("refused "+notForLogs, notForLogs)
	time.Sleep(time.Hour)
	src.Hold(source.Held{By: []string{"pid 7"}})
	src.Append(notForLogs)
	time.Sleep(time.Hour)
	src.Release()
	time.Sleep(time.Hour)
	cancel()
	require.NoError(t, <-done)
	require.Len(t, dead.Records(), 1)

	mu.Lock()
	fault = func() error { return retry.Permanent(leakyError{}) }
	mu.Unlock()
	src.Append(notForLogs)
	require.ErrorAs(t, p.Run(t.Context()), new(leakyError))
}

type sinkFunc func(context.Context, source.Batch[string]) error

func (f sinkFunc) Write(ctx context.Context, b source.Batch[string]) error { return f(ctx, b) }

// logOfAHistory reads a table whose rows are updated, that is altered, and by another condition.
func logOfAHistory(t *testing.T, log *slog.Logger) {
	db := dbtest.SQLite(t).Open(t, dbtest.NCruces)
	db.MustExec(`CREATE TABLE old (id INTEGER PRIMARY KEY AUTOINCREMENT, secret TEXT, n INT)`)
	table := &sqlsource.Table{DB: db, Name: "old", Key: []string{"id"}, Logger: log}
	var after source.Cursor
	next := func() {
		for i := range 4 {
			db.MustExec(`INSERT INTO old (secret, n) VALUES (?, ?)`, fmt.Sprint(notForLogs, i), rand.Int())
		}
		b, err := table.Fetch(t.Context(), after, 100)
		require.NoError(t, err)
		require.Len(t, b.Records, 4)
		after = b.To
	}
	next()
	db.MustExec(`UPDATE old SET secret = secret || 'x'`)
	db.MustExec(`CREATE TABLE other (a)`)
	next()
	db.MustExec(`UPDATE old SET secret = secret || 'x', n = n + 1`)
	next()
	table = &sqlsource.Table{DB: db, Name: "old", Key: []string{"id"}, Where: "t.id > 0", Logger: log}
	next()
	for _, cluster := range []cluster{{name: "here"}, {name: "there"}} {
		table = &sqlsource.Table{DB: db, Name: "old", Key: []string{"id"}, Ceiling: ceiling.None{}, Dialect: cluster, Logger: log}
		next()
	}
}

// cluster is SQLite with a server that has an identity.
type cluster struct {
	sqlite.Dialect
	name string
}

func (c cluster) History(context.Context, ceiling.Queryer, []string, string) (dialect.History, error) {
	return dialect.History{Parts: []dialect.HistoryPart{{Name: "cluster", Value: c.name, Changed: "the database moved"}}}, nil
}

// logOfATable reads an SQLite table that is altered, has no index, and gets rows below the
// cursor.
func logOfATable(t *testing.T, log *slog.Logger) {
	db := dbtest.SQLite(t).Open(t, dbtest.NCruces)
	db.MustExec(`CREATE TABLE safe (id INTEGER PRIMARY KEY AUTOINCREMENT, secret TEXT)`)
	db.MustExec(`CREATE TABLE loose (id INTEGER NOT NULL, secret TEXT)`)
	for i := 1; i <= 5; i++ {
		db.MustExec(`INSERT INTO safe (secret) VALUES (?)`, notForLogs)
		db.MustExec(`INSERT INTO loose VALUES (?, ?)`, 10*i, notForLogs)
	}
	fetch := func(s source.Source[row.Row], after source.Cursor) source.Cursor {
		b, err := s.Fetch(t.Context(), after, 100)
		require.NoError(t, err)
		return b.To
	}
	safe := &sqlsource.Table{DB: db, Name: "safe", Key: []string{"id"}, Logger: log}
	after := fetch(safe, "")
	db.MustExec(`ALTER TABLE safe ADD COLUMN more TEXT DEFAULT '` + notForLogs + `'`)
	db.MustExec(`INSERT INTO safe (secret) VALUES (?)`, notForLogs)
	fetch(safe, after)

	loose := &late.Source[row.Row]{Every: 1, Logger: log,
		Table: &sqlsource.Table{DB: db, Name: "loose", Key: []string{"id"}, Ceiling: ceiling.None{}, Logger: log}}
	after = fetch(loose, "")
	db.MustExec(`INSERT INTO loose VALUES (15, ?)`, notForLogs)
	for range 3 {
		after = fetch(loose, after)
	}
	fetch(&late.Source[row.Row]{Table: unreadKeys{loose.Table}, Logger: log}, "")
}

// unreadKeys is a table whose Keys always fails.
type unreadKeys struct{ late.Table[row.Row] }

func (unreadKeys) Keys(context.Context, source.Cursor, source.Cursor, int) ([]source.Cursor, error) {
	return nil, errors.New("no answer")
}

// logOfFiles removes the directory before a segment is created.
func logOfFiles(t *testing.T, log *slog.Logger) {
	dir := filepath.Join(t.TempDir(), "out")
	sealed, attempts := make(chan struct{}), 0
	f, err := filesink.Open(dir, filesink.Options[string]{Name: "letters", SegmentAge: time.Minute, Logger: log,
		OnSeal: func(context.Context, filesink.Segment) error {
			if attempts++; attempts == 1 {
				return errors.New("no answer")
			}
			close(sealed)
			return nil
		}})
	require.NoError(t, err)
	_, err = f.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Write(t.Context(), source.Batch[string]{To: "1", Records: []string{notForLogs}}))
	require.NoError(t, os.Rename(dir, dir+".away"))
	time.Sleep(time.Hour)
	require.NoError(t, os.Rename(dir+".away", dir))
	<-sealed
	require.NoError(t, f.Close())
}

// logOfAGroup restarts a pipeline once, and leaves a misconfigured one stopped.
func logOfAGroup(t *testing.T, log *slog.Logger) {
	var src sourcetest.Fake[string]
	src.FailNext(1, retry.Permanent(leakyError{}))
	src.End()
	p := &poller.Poller[string]{Name: "letters", Source: &src, Sink: &sinktest.Fake[string]{}, Checkpointer: &pollertest.Checkpointer{}, Logger: log}
	wrong := &poller.Poller[string]{Name: "letters", Logger: log}
	require.ErrorContains(t, poller.Group{Pipelines: []poller.Pipeline{p, wrong}, Logger: log}.Run(t.Context()), "misconfigured")
	require.Equal(t, poller.Stopped, wrong.Status().State)
	require.True(t, p.Status().Done)
}

// logOfReplicas cuts the active one of two replicas off from the store of the lease.
func logOfReplicas(t *testing.T, log *slog.Logger) {
	var src sourcetest.Fake[string]
	var out sinktest.Transactional[string]
	var beats sinktest.Checkpoint
	var stops []func() error
	var stores []*sinktest.Checkpoint
	for range 2 {
		out, store := out.Open(), beats.Open()
		p := &poller.Poller[string]{Name: "letters", Source: &src, Sink: out, Checkpointer: out, Lease: &lease.Heartbeat{Store: store}, Logger: log}
		stops, stores = append(stops, pollertest.Start(t.Context(), p)), append(stores, store)
		time.Sleep(time.Minute)
	}
	stores[0].Fail(leakyError{})
	time.Sleep(time.Hour)
	for _, stop := range stops {
		require.NoError(t, stop())
	}
}

// logThatBlocks drops a line.
func logThatBlocks(t *testing.T, rec logRecorder) {
	blocked := blockedHandler{rec, make(chan struct{})}
	logs := asynclog.New(blocked)
	for range asynclog.Capacity + 2 {
		slog.New(logs).Info("started", "pipeline", "letters", "cursor", "")
	}
	close(blocked.end)
	require.NoError(t, logs.Close())
}

type blockedHandler struct {
	logRecorder
	end chan struct{}
}

func (b blockedHandler) Handle(ctx context.Context, r slog.Record) error {
	<-b.end
	return b.logRecorder.Handle(ctx, r)
}
