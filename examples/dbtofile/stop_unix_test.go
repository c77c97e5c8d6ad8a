//go:build unix

package main_test

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stopsWell stops the program, and requires exit code 0.
func (p *process) stopsWell() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	require.Equal(p.t, 0, p.code(), "%s", &p.stderr)
	require.Regexp(p.t, `msg(=|":")stopped`, p.stderr.String())
}

func TestStop(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 10)
	dir := t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-interval", "10ms", "-batch", "1"}
	for i, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := start(t, nil, args...)
		open := dir + "/orders-0000000001.jsonl.open"
		require.Eventually(t, func() bool {
			b, _ := os.ReadFile(open)
			return string(b) == sold(1, 10+i)
		}, patience, 10*time.Millisecond)
		p.signal(signal)
		require.Equal(t, 0, p.code())
		require.FileExists(t, open, "the next start continues it")
		sell(db, 11+i, 11+i)
	}
	succeeds(t, append(args, "-once")...)
	same(t, sold(1, 12), content(t, dir, ".jsonl"))
	require.Len(t, files(t, dir, ".jsonl"), 1)
}

// An audit that is stopped prints its result.
func TestAuditStopped(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		db, args := drawn(t, 5)
		p := start(t, nil, append(args, "-audit", "1h")...)
		require.Eventually(t, func() (polls bool) { // more scans than it needs to begin
			require.NoError(t, db.Get(&polls, `SELECT coalesce(idx_scan, 0) + coalesce(seq_scan, 0) >= 50 FROM pg_stat_user_tables WHERE relname = 'orders'`))
			return polls
		}, patience, 10*time.Millisecond)
		p.signal(signal)
		require.Equal(t, 0, p.code(), "%s", &p.stderr)
		prints(t, p, `below the ceiling \(lock-fence\): 0 rows read, 0 late`, `No row was added: this shows nothing\.`)
		require.Empty(t, p.stderr.String())
	}
}

func TestOnceStoppedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "-dsn", "postgres://ada@127.0.0.1:1/shop", "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once")
	p.says("failing, will retry", 1)
	p.signal(syscall.SIGTERM)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "dbtofile: poller: orders: stopped before all records were delivered")
}

// After the first signal the program finishes its work. Here it waits for a DSN that
// never comes, so only a second signal can end it.
func TestTheSecondSignalEndsItAtOnce(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "dsn")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	p := start(t, nil, "-dsn-file", pipe, "-table", "orders", "-key", "id", "-out", t.TempDir())
	var dsn *os.File
	require.Eventually(t, func() (reads bool) {
		var err error
		dsn, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	}, patience, 5*time.Millisecond)
	defer dsn.Close()
	for ended := false; !ended; {
		_ = p.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
			ended = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signaled())
	require.Equal(t, syscall.SIGTERM, status.Signal(), "ended by the signal, not by the test")
}

// The program is killed again and again, at random points.
func TestKilled(t *testing.T) {
	t.Parallel()
	kills := 20
	if testing.Short() {
		kills = 5
	}
	db, dsn := shop(t, 0)
	rows, dir := 0, t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-batch", "50", "-segment-bytes", "20000"}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range kills {
		// Each run gets enough new rows for n files, wherever the last one was killed.
		n := 1 + random.IntN(5)
		sell(db, rows+1, rows+1000*n)
		rows += 1000 * n
		p := start(t, nil, args...)
		p.says("file complete", n)
		require.NoError(t, p.Process.Kill())
		<-p.ended
	}
	succeeds(t, append(args, "-once", "-batch", "5000")...)
	same(t, sold(1, rows), content(t, dir, ".jsonl"))
}

// More idle clients than file descriptors stop neither the copy nor the pages.
func TestIdleClientsLeaveFileDescriptors(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 5)
	dir := t.TempDir()
	p := command(t, nil, "-c", `ulimit -n 64 && exec "$0" "$@"`, binary)
	p.Args = append(p.Args, serving(dsn, dir, "-segment-age", "50ms")...)
	p.Path, p.Args[0] = "/bin/sh", "sh"
	p.launch()
	at := p.address()
	for range 200 {
		conn, err := net.Dial("tcp", at)
		require.NoError(t, err)
		defer conn.Close()
	}
	sell(db, 6, 10)
	require.Eventually(t, func() bool { return content(t, dir, ".jsonl") == sold(1, 10) }, patience, 10*time.Millisecond)
	require.Equal(t, 10.0, metric(t, p.scrape(), "rows_written_total"))
	p.stopsWell()
}
