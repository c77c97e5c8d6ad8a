//go:build unix

package main_test

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// screen renders the output on a terminal: its lines, after overwriting.
func screen(text string) (lines []string) {
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		var cells []byte
		for part := range strings.SplitSeq(line, "\r") {
			cells = append([]byte(part), cells[min(len(part), len(cells)):]...)
		}
		lines = append(lines, strings.TrimRight(string(cells), " "))
	}
	return lines
}

func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]*pty.Winsize{"narrow": {Rows: 24, Cols: 60}, "unknown size": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, dsn := shop(t, 12345)
			p := command(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", t.TempDir(), "-interval", "50ms")
			p.Stdin, p.Stdout, p.Stderr = nil, nil, nil
			terminal, err := pty.StartWithSize(p.Cmd, size)
			require.NoError(t, err)
			defer terminal.Close()
			go func() {
				_, _ = io.Copy(&p.stderr, terminal) // until the program closes its side
				_ = p.Wait()
				close(p.ended)
			}()

			progress := regexp.MustCompile(`^12,345 rows  [\d,]+ rows/s  lag \d\.\ds  (up to date|copying)$`)
			require.Eventually(t, func() bool {
				lines := screen(p.stderr.String())
				return progress.MatchString(lines[len(lines)-1])
			}, patience, 10*time.Millisecond)
			p.stopsWell()
			lines := screen(p.stderr.String())
			require.Empty(t, lines[len(lines)-1], "the progress is gone")
			for _, line := range lines[:len(lines)-1] {
				require.Regexp(t, `^time=\d\d:\d\d:\d\d level=INFO msg=`, line)
			}
		})
	}
}

func TestNoProgressInALog(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 12345)
	p := succeeds(t, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once")
	require.NotContains(t, p.stderr.String(), "\r")
	require.NotContains(t, p.stderr.String(), "rows/s")
	for line := range strings.Lines(p.stderr.String()) {
		require.Regexp(t, `^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\S+ level=INFO msg=`, line)
	}
}
