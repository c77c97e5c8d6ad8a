//go:build linux

package faults

import (
	"context"
	"database/sql"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// own starts a server for one fault.
func own(*testing.T) []dbtest.Option { return nil }

// fewConnections starts a server that allows only some.
func fewConnections(t *testing.T) []dbtest.Option {
	if strings.HasSuffix(t.Name(), postgres.name) {
		return []dbtest.Option{dbtest.Args("-c", "max_connections=40", "-c", "superuser_reserved_connections=15")}
	}
	return []dbtest.Option{dbtest.Args("--max-connections=40")}
}

// serverFaults are faults of the server as a whole.
func serverFaults() []fault {
	list := []fault{
		{name: "kill -9", how: "SIGKILL to the server, which then recovers", on: servers, private: own, begin: func(w *world) func() {
			return down(w, w.server.Kill)
		}},
		{name: "fast stop", how: "SIGINT to Postgres, SIGTERM to MariaDB", on: servers, private: own, begin: func(w *world) func() {
			return down(w, w.server.Stop)
		}},
		{name: "immediate stop", how: "SIGQUIT to the postmaster", on: []engine{postgres}, private: own, begin: func(w *world) func() {
			return down(w, func() error {
				require.NoError(w.t, syscall.Kill(w.serverPID(), syscall.SIGQUIT))
				return w.server.Stop()
			})
		}},
		{name: "server stands still", how: "SIGSTOP to the server's main process and its backends for 2 s", on: servers, private: own, times: 2,
			quiet: 2 * time.Second, begin: standStill},
		{name: "clock +1 h", how: "the server's clock jumps forward by an hour, and back after 1 s", on: servers, private: ownClock, times: 2,
			quiet: time.Second, begin: jump(time.Hour)},
		{name: "clock -1 h", how: "the server's clock jumps back by an hour, and forward after 1 s", on: servers, private: ownClock, times: 2,
			quiet: time.Second, begin: jump(-time.Hour)},
		{name: "connections used up", how: "other clients take all connections, and the copy's are terminated", on: servers, private: fewConnections,
			times: 2, begin: useUp, prepare: func(w *world) {
				asReader(w)
				w.addRole("hoarder")
			}},
		{name: "PgBouncer restarted", how: "a PgBouncer in transaction mode, between the copy and the server, is stopped and started", on: onlyPostgres, prepare: usePooler,
			begin: func(w *world) func() {
				require.NoError(w.t, w.pooler.Stop())
				return func() { require.NoError(w.t, w.pooler.Start()) }
			}},
	}
	for i := range list {
		list[i].part = "databases"
	}
	return list
}

// usePooler puts a PgBouncer between the copy and the server.
func usePooler(w *world) {
	w.pooler = dbtest.StartPgBouncer(w.t, w.server, "transaction")
	w.copy.dsn = w.engine.dsn(w.database.WithAddr(w.pooler.Addr()))
}

// down stops the server until the returned function is called.
func down(w *world, how func() error) (end func()) {
	require.NoError(w.t, how())
	return func() { require.NoError(w.t, w.server.Start()) }
}

// serverPID returns the id of the server's main process.
func (w *world) serverPID() int {
	w.t.Helper()
	query := "SELECT current_setting('data_directory') || '/postmaster.pid'"
	if w.engine.name == mariadb.name {
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

// standStill stops the processes of the server, and those of the copy's connections.
func standStill(w *world) func() {
	pids := []int{w.serverPID()}
	if w.engine.name == postgres.name {
		var backends []int
		require.NoError(w.t, w.db.Select(&backends, `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()`))
		pids = append(pids, backends...)
	}
	all := func(s syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s) // a backend may have ended
		}
	}
	all(syscall.SIGSTOP)
	return func() { all(syscall.SIGCONT) }
}

// addRole adds a role that may only read. Its name is its password.
func (w *world) addRole(name string) {
	if w.engine.name == postgres.name {
		w.must(`CREATE ROLE ` + name + ` LOGIN PASSWORD '` + name + `'`)
	} else {
		w.must(`CREATE USER ` + name + ` IDENTIFIED BY '` + name + `'`)
		w.must(`GRANT PROCESS ON *.* TO ` + name)
	}
	w.must(`GRANT SELECT ON items TO ` + name)
}

// asReader lets the copy connect as the role reader.
func asReader(w *world) {
	w.addRole("reader")
	w.copy.dsn = w.engine.dsn(w.database.WithUser("reader", "reader"))
}

// terminate terminates the connections of the copy.
func terminate(w *world) { eachSession(w, `SELECT pg_terminate_backend($1)`, `KILL ?`) }

// cancel ends the statements of the copy.
func cancel(w *world) { eachSession(w, `SELECT pg_cancel_backend($1)`, `KILL QUERY ?`) }

func eachSession(w *world, inPostgres, inMariaDB string) {
	statement := inPostgres
	if w.engine.name == mariadb.name {
		statement = inMariaDB
	}
	for _, id := range sessions(w) {
		_, _ = w.db.Exec(statement, id) // the session may have ended
	}
}

// sessions returns the ids of the copy's sessions, or nothing if the server does not answer.
func sessions(w *world) (ids []int64) {
	query := `SELECT pid FROM pg_stat_activity WHERE usename = 'reader'`
	if w.engine.name == mariadb.name {
		query = `SELECT id FROM information_schema.processlist WHERE user = 'reader'`
	}
	_ = w.db.Select(&ids, query) // what needs them is repeated
	return ids
}

// useUp lets another role take every connection that it may have. The copy's connections
// are terminated until the other role has them, too.
func useUp(w *world) func() {
	w.db.SetMaxIdleConns(10) // of the writers and the test, who keep theirs
	hoard, err := sqlx.Open(w.engine.driver.SQLName(), w.database.WithUser("hoarder", "hoarder").DSN(w.engine.driver))
	require.NoError(w.t, err)
	var taken []*sql.Conn
	return loop(w, func(ctx context.Context) {
		c, err := hoard.Conn(ctx)
		if err != nil {
			terminate(w)
			return
		}
		taken = append(taken, c)
	}, func() {
		for _, c := range taken {
			c.Close()
		}
		hoard.Close()
	})
}

// loop repeats something until the returned function is called, and ends with something else.
func loop(w *world, again func(context.Context), last func()) (end func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, time.Millisecond) {
			again(ctx)
		}
		last()
	}()
	end = func() { stop(); <-done }
	w.t.Cleanup(end)
	return end
}
