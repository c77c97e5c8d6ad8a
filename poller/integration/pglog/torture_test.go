package pglog_test

import (
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/row"
)

var (
	writers = flag.Int("pglog.writers", 4, "writers of the torture")
	kills   = flag.Int("pglog.kills", 3, "how often the torture kills the process that reads")
	crashes = flag.Int("pglog.crashes", 1, "how often the torture kills the server")
	bulk    = flag.Int("pglog.bulk", 20_000, "rows of the torture's large transaction")
	changes = flag.Int64("pglog.changes", 10_000, "changes of the torture, besides the large transaction")
	replay  = flag.Uint64("pglog.seed", 0, "seed of the torture; 0 draws one")
)

// readerOf holds the data source name of the server in a process that only reads.
const readerOf = "PGLOG_READER_OF"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(readerOf); dsn != "" {
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
		db, err := sqlx.Open("pgx", dsn)
		if err == nil {
			err = follower(db, os.Getenv("PGLOG_DIR"), nil).Run(context.Background())
		}
		slog.Error("reader ended", "err", err)
		os.Exit(1)
	}
	lab.Main(m)
}

// follower writes changes to files, exactly once. It calls drained at the end of the log.
func follower(db *sqlx.DB, dir string, drained func()) *poller.Poller[row.Change] {
	src := &pglog.Source{DB: db, Slot: "torture", Publication: "p"}
	files, err := filesink.Open(dir, filesink.Options[row.Change]{SegmentAge: -1})
	if err != nil {
		panic(err)
	}
	return &poller.Poller[row.Change]{Name: "torture", Source: src, Sink: files, Checkpointer: files, Interval: 10 * time.Millisecond,
		Hooks: poller.Hooks{Poll: func(i poller.PollInfo) {
			src.Saved(i.To)
			if drained != nil && i.Records == 0 && !i.More && i.Held == nil {
				drained()
			}
		}}}
}

// Whatever the writers do, and while the reading process and the server are killed, nothing is lost,
// delivered twice or out of order.
func TestTorture(t *testing.T) {
	t.Parallel()
	server := start(t, "-c", "deadlock_timeout=50ms")
	w := newWorld(t, server.NewDatabase(t))
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(w.seed, 1<<40))
	w.write(*writers, *changes)
	drain(t, w, dir) // the copy, and the changes written since
	events := make([]bool, *kills+*crashes)
	for i := range *crashes {
		events[i] = true
	}
	rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	reader := startReader(t, w.d, dir)
	for i, crash := range events {
		if i == len(events)/2 {
			w.bulk(t, *bulk)
		}
		<-time.After(time.Duration(50+rng.IntN(400)) * time.Millisecond)
		lab.Reach(t, &w.changes, *changes*int64(i)/int64(len(events)))
		if crash {
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start())
			continue
		}
		require.NoError(t, reader.Process.Kill())
		_ = reader.Wait()
		reader = startReader(t, w.d, dir)
	}
	w.done.Wait()
	require.NoError(t, reader.Process.Kill())
	_ = reader.Wait()
	drain(t, w, dir)
	j := judgeFiles(t, dir)
	j.compare(w.state(t))
	assert.Empty(t, j.faults)
	t.Logf("%d changes, %d kills, %d crashes", j.count, *kills, *crashes)
}

func startReader(t *testing.T, d dbtest.Database, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), readerOf+"="+d.DSN(dbtest.PGX), "PGLOG_DIR="+dir)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// drain reads to the end of the log in this process.
func drain(t *testing.T, w *world, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	p := follower(w.db, dir, cancel)
	p.Logger = slog.New(slog.DiscardHandler)
	require.NoError(t, p.Run(ctx))
	require.Equal(t, context.Canceled, ctx.Err(), "the log did not end")
	require.NoError(t, p.Source.(*pglog.Source).Close())
	require.NoError(t, p.Sink.(*filesink.Dir[row.Change]).Close())
}
