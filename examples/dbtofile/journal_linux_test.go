package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheJournalKnowsTheTime(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 1)
	for _, journal := range []bool{true, false} {
		stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		require.NoError(t, err)
		defer stderr.Close()
		info, err := stderr.Stat()
		require.NoError(t, err)
		stat, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		want, stream := `^level=INFO msg=started pipeline=orders`, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
		if !journal { // inherited, from before standard error was redirected
			want, stream = `^time=\S+ level=INFO msg=started pipeline=orders`, "8:1"
		}
		p := command(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once")
		p.Stderr = stderr
		p.Env = append(p.Env, "JOURNAL_STREAM="+stream)
		require.NoError(t, p.Run())
		said, err := os.ReadFile(stderr.Name())
		require.NoError(t, err)
		require.Regexp(t, want, string(said))
	}
}
