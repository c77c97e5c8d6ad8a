package diffsource

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// TestMain runs the tests, or the pipeline of a process that a test kills.
func TestMain(m *testing.M) {
	if text := os.Getenv("DIFFSOURCE_PIPELINE"); text != "" {
		var p pipeline
		err := json.Unmarshal([]byte(text), &p)
		if err == nil {
			err = p.run(context.Background(), false)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lab.Main(m)
}

// pipeline writes the changes of the table t to files.
type pipeline struct {
	Driver dbtest.Driver
	DSN    string
	Dir    string
}

func (p pipeline) files() string { return filepath.Join(p.Dir, "files") }

// run runs the pipeline until its context ends, or until it has nothing more to deliver.
func (p pipeline) run(ctx context.Context, drain bool) error {
	db, err := sqlx.Open(p.Driver.SQLName(), p.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	log := slog.New(slog.DiscardHandler)
	src := &diffsource.Source{Dir: filepath.Join(p.Dir, "state"), Table: &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Logger: log}}
	defer src.Close()
	files, err := filesink.Open(p.files(), filesink.Options[row.Change]{Name: "changes", Logger: log})
	if err != nil {
		return err
	}
	defer files.Close()
	poll := &poller.Poller[row.Change]{Name: "t", Source: src, Sink: files, Checkpointer: files, Interval: 50 * time.Millisecond, BatchSize: 200, Logger: log}
	if drain {
		return poll.Drain(ctx)
	}
	return poll.Run(ctx)
}

// process is a running pipeline.
type process struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

func (p pipeline) start(t *testing.T) *process {
	text, err := json.Marshal(p)
	require.NoError(t, err)
	run := &process{cmd: exec.Command(os.Args[0])}
	run.cmd.Env = append(os.Environ(), "DIFFSOURCE_PIPELINE="+string(text))
	run.cmd.Stderr = &run.log
	require.NoError(t, run.cmd.Start())
	t.Cleanup(sync.OnceFunc(func() { run.kill() }))
	return run
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
