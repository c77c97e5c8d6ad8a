package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// journaled runs the program with standard error connected as in a systemd service,
// and returns its output.
func journaled(t *testing.T, code int, args ...string) string {
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer stderr.Close()
	info, err := stderr.Stat()
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return redirected(t, code, stderr, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), args...)
}

func redirected(t *testing.T, code int, stderr *os.File, stream string, args ...string) string {
	p := command(t, nil, args...)
	p.Stderr = stderr
	p.Env = append(p.Env, "JOURNAL_STREAM="+stream)
	_ = p.Run()
	require.Equal(t, code, p.ProcessState.ExitCode())
	said, err := os.ReadFile(stderr.Name())
	require.NoError(t, err)
	return string(said)
}

func TestJournalLinesHavePrioritiesAndNoTime(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 1)
	db.MustExec(`CREATE TABLE loose (id INTEGER NOT NULL)`)
	args := func(table string, more ...string) []string {
		return append([]string{"-dsn", dsn, "-table", table, "-key", "id", "-out", t.TempDir(), "-once"}, more...)
	}
	said := journaled(t, 0, args("orders")...)
	require.Regexp(t, `^<6>level=INFO msg=started pipeline=orders`, said)

	said = journaled(t, 0, args("loose", "-ceiling", "none")...)
	require.Regexp(t, `(?m)^<4>level=WARN msg=guarantee pipeline=loose `, said)
	require.Regexp(t, `(?m)^<6>level=INFO msg=stopped pipeline=loose `, said)

	said = journaled(t, 0, args("orders", "-log-format", "json")...)
	require.Regexp(t, `^<6>{"level":"INFO","msg":"started","pipeline":"orders"`, said)

	// The reason for the exit, in one or several lines.
	priority := regexp.MustCompile(`^<\d>`)
	said = journaled(t, 1, args("loose", "-start", "latest")...)
	require.Regexp(t, `(?m)^<3>level=ERROR msg=stopped `, said)
	require.Regexp(t, `(?m)^<3>dbtofile: loose: rows would be missed `, said)
	require.Greater(t, strings.Count(said, "\n"), 4)
	for line := range strings.Lines(said) {
		require.Regexp(t, priority, line)
	}
	said = journaled(t, 2, "-table", "orders")
	require.Regexp(t, `^<3>dbtofile: -dsn or -dsn-file is missing`, said)

	// The variable is inherited, but standard error was redirected since.
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer stderr.Close()
	said = redirected(t, 0, stderr, "8:1", args("orders")...)
	require.Regexp(t, `^time=\S+ level=INFO msg=started pipeline=orders`, said)
}
