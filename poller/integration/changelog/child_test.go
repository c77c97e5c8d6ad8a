package changelog

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/row"
)

// The environment variables of a child process.
const (
	childDir    = "CHANGELOG_CHILD_DIR"
	childDriver = "CHANGELOG_CHILD_DRIVER"
	childDSN    = "CHANGELOG_CHILD_DSN"
	childDrain  = "CHANGELOG_CHILD_DRAIN"
	childKeys   = "CHANGELOG_CHILD_KEYS"
)

// child copies the changes of items to files, exactly once, and prunes what is saved. It runs until
// it is killed, or to the end.
func child(dir string) int {
	err := func() error {
		db, err := sqlx.Open(os.Getenv(childDriver), os.Getenv(childDSN))
		if err != nil {
			return err
		}
		files, err := filesink.Open(dir, filesink.Options[row.Change]{Name: "items", SegmentAge: -1, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		table := tortured(db, os.Getenv(childKeys) == "true")
		polls := 0
		p := &poller.Poller[row.Change]{Name: "items", Source: table, Sink: files, Checkpointer: files, Interval: 5 * time.Millisecond, BatchSize: 700, Logger: table.Logger}
		p.Hooks.Poll = func(info poller.PollInfo) {
			if polls++; polls%10 == 0 {
				table.Prune(context.Background(), nil, info.To) //nolint:errcheck // the next one deletes as much
			}
		}
		if os.Getenv(childDrain) != "" {
			return p.Drain(context.Background())
		}
		return p.Run(context.Background())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// tortured returns the table whose changes are read.
func tortured(db *sqlx.DB, keysOnly bool) *changelog.Table {
	table := silent(db, "items")
	table.KeysOnly = keysOnly
	return table
}

// spawn returns the command of a child.
func spawn(t testing.TB, driver, dsn, dir, drain string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir, childDriver+"="+driver, childDSN+"="+dsn, childDrain+"="+drain, childKeys+"="+strconv.FormatBool(*keys))
	return cmd
}
