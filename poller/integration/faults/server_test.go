//go:build linux

package faults

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// own marks a fault that needs a server of its own.
var own = []string{}

// serverFaults are faults of the server as a whole.
func serverFaults() []fault {
	list := []fault{
		{name: "kill -9", how: "SIGKILL to the server, which then recovers", on: servers, times: 3, private: own, begin: func(w *world) func() {
			return down(w, w.server.Kill)
		}},
		{name: "fast stop", how: "SIGINT to Postgres, SIGTERM to MariaDB", on: servers, times: 3, private: own, begin: func(w *world) func() {
			return down(w, w.server.Stop)
		}},
		{name: "immediate stop", how: "SIGQUIT to the postmaster", on: []engine{postgres}, times: 3, private: own, begin: func(w *world) func() {
			return down(w, func() error {
				require.NoError(w.t, syscall.Kill(w.serverPID(), syscall.SIGQUIT))
				return w.server.Stop()
			})
		}},
		{name: "server stands still", how: "SIGSTOP to all processes of the server for 2 s", on: servers, times: 2, private: own, quiet: 2 * time.Second, begin: func(w *world) func() {
			group := -w.serverPID()
			require.NoError(w.t, syscall.Kill(group, syscall.SIGSTOP))
			return func() { require.NoError(w.t, syscall.Kill(group, syscall.SIGCONT)) }
		}},
		{name: "clock +1 h", how: "the server's clock jumps by an hour and back", on: servers, times: 2, private: own, quiet: time.Second, prepare: ownClock, begin: func(w *world) func() {
			return w.jump(time.Hour)
		}},
		{name: "clock -1 h", how: "the server's clock jumps back by an hour, and forward again", on: servers, times: 2, private: own, quiet: time.Second, prepare: ownClock, begin: func(w *world) func() {
			return w.jump(-time.Hour)
		}},
		{name: "connections used up", how: "other clients hold all connections; the copy's are terminated", on: servers, times: 2, private: own, prepare: plainRole, begin: useUp},
	}
	for i := range list {
		list[i].part = "databases"
	}
	return list
}

// down stops the server until the returned function is called.
func down(w *world, how func() error) (end func()) {
	require.NoError(w.t, how())
	return func() { require.NoError(w.t, w.server.Start()) }
}

// serverPID returns the id of the server's main process, which is that of its group, too.
func (w *world) serverPID() int {
	w.t.Helper()
	query := "SELECT current_setting('data_directory') || '/postmaster.pid'"
	if w.engine.name == "MariaDB" {
		query = "SELECT @@pid_file"
	}
	var path string
	require.NoError(w.t, w.db.Get(&path, query))
	text, err := os.ReadFile(path)
	require.NoError(w.t, err)
	pid, err := strconv.Atoi(strings.Fields(string(text))[0])
	require.NoError(w.t, err)
	return pid
}

// plainRole lets the copy connect as a role that may only read, and not use the connections
// reserved for superusers.
func plainRole(w *world) {
	if w.engine.name == "Postgres" {
		w.must(`CREATE ROLE reader LOGIN PASSWORD 'reader'`)
		w.must(`GRANT SELECT ON items TO reader`)
	} else {
		w.must(`CREATE USER reader IDENTIFIED BY 'reader'`)
		w.must(`GRANT SELECT ON items TO reader`)
		w.must(`GRANT PROCESS ON *.* TO reader`)
	}
	w.copy.dsn = w.engine.dsn(w.database.WithUser("reader", "reader"))
}

// useUp takes every connection that a plain role may have. The copy loses its own, because
// they are terminated until somebody else has taken them.
func useUp(w *world) func() {
	greedy := w.database.WithUser("reader", "reader")
	taken, err := sqlx.Open(w.engine.driver.SQLName(), greedy.DSN(w.engine.driver))
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := taken.Conn(ctx); err != nil { // the pool closes those that are taken
				terminateReaders(w)
				pause(ctx, 20*time.Millisecond)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		terminateReaders(w)
		terminateTaken(taken)
	}
}

// terminateTaken closes a pool whose connections are still taken, in the background: the
// server has terminated them.
func terminateTaken(db *sqlx.DB) { go db.Close() }

// terminateReaders terminates connections of the copy's role: those of the copy, which has a name
// of its own, first.
func terminateReaders(w *world) {
	var ids []int64
	query := `SELECT pid FROM pg_stat_activity WHERE usename = 'reader' AND application_name = 'dbtofile'`
	kill := `SELECT pg_terminate_backend($1)`
	if w.engine.name == "MariaDB" {
		query = `SELECT id FROM information_schema.processlist WHERE user = 'reader'`
		kill = `KILL ?`
	}
	if w.db.Select(&ids, query) != nil {
		return
	}
	for _, id := range ids {
		_, _ = w.db.Exec(kill, id)
	}
}

// ownClock restarts the server with a clock that the test can move: a library that adds what
// a file says to the time of day. The copy's own clock cannot be moved this way, since Go
// asks the kernel.
func ownClock(w *world) {
	assert.Fail(w.t, "not written")
	_ = filepath.Join
	_ = dbtest.Args
}

func (w *world) jump(time.Duration) func() { return func() {} }
