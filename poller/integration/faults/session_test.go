//go:build linux

package faults

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
)

// sessionFaults are faults of the copy's sessions: what other sessions, administrators and
// settings do to it.
func sessionFaults() []fault {
	list := []fault{
		{name: "sessions terminated", how: "pg_terminate_backend and KILL, again and again", on: servers, begin: func(w *world) func() {
			return loop(w, func(context.Context) { terminate(w) }, func() {})
		}},
		{name: "statements ended", how: "pg_cancel_backend and KILL QUERY, again and again", on: servers, begin: func(w *world) func() {
			return loop(w, func(context.Context) { cancel(w) }, func() {})
		}},
		{name: "read-only", how: "the copy's role may only read for 1 s: default_transaction_read_only in Postgres, read_only in MariaDB; the copy writes nothing there", on: servers, quiet: time.Second, begin: func(w *world) func() {
			on, off := readOnly(w.engine)
			w.must(on)
			terminate(w)
			return func() { w.must(off); terminate(w) }
		}},
		{name: "password changed", how: "the role has another password, and its sessions are terminated", on: servers, begin: func(w *world) func() {
			w.password("changed")
			terminate(w)
			return func() { w.password("reader") }
		}},
		{name: "rights revoked", how: "REVOKE SELECT, then GRANT", on: servers, begin: func(w *world) func() {
			w.must(`REVOKE SELECT ON items FROM reader`)
			terminate(w)
			return func() { w.must(`GRANT SELECT ON items TO reader`) }
		}},
		{name: "table locked", how: "ACCESS EXCLUSIVE in Postgres, LOCK TABLES ... WRITE in MariaDB, for 2 s", on: servers, times: 2, quiet: 2 * time.Second, begin: lockTable},
		{name: "FLUSH TABLES WITH READ LOCK", how: "for 2 s", on: onlyMariaDB, times: 2, quiet: 2 * time.Second, begin: func(w *world) func() {
			return w.hold(`FLUSH TABLES WITH READ LOCK`, `UNLOCK TABLES`)
		}},
	}
	list = append(list, timeoutFaults()...)
	for i := range list {
		list[i].part, list[i].private = "databases", own
		if list[i].prepare == nil {
			list[i].prepare = asReader
		}
	}
	return list
}

var onlyPostgres, onlyMariaDB = []engine{postgres}, []engine{mariadb}

// timeout is a setting that ends statements, waits, transactions or sessions.
type timeout struct {
	name, set, reset string
	locked           bool   // it matters while the table is locked
	expires          bool   // it ends the copy's sessions, which are idle between two polls
	never            string // why the copy does not notice it
	on               []engine
}

func timeouts() []timeout {
	role := func(name, value string) timeout {
		return timeout{name: name + "=" + value, on: onlyPostgres,
			set: `ALTER ROLE reader SET ` + name + ` = '` + value + `'`, reset: `ALTER ROLE reader RESET ` + name}
	}
	global := func(name, value, usual string) timeout {
		return timeout{name: name + "=" + value, on: onlyMariaDB,
			set: `SET GLOBAL ` + name + ` = ` + value, reset: `SET GLOBAL ` + name + ` = ` + usual}
	}
	never := func(s timeout, why string) timeout { s.never = why; return s }
	lock, mariaLock := role("lock_timeout", "1ms"), global("lock_wait_timeout", "1", "86400")
	lock.locked, mariaLock.locked = true, true
	idle, mariaIdle := role("idle_session_timeout", "500ms"), global("wait_timeout", "1", "28800")
	idle.expires, mariaIdle.expires = true, true
	user := timeout{name: "MAX_STATEMENT_TIME 0.00001", on: onlyMariaDB,
		set: `ALTER USER reader WITH MAX_STATEMENT_TIME 0.00001`, reset: `ALTER USER reader WITH MAX_STATEMENT_TIME 0`}
	const open, waits, locks = "the copy leaves no transaction open, so nothing expires", "the copy sends and reads at once, so nothing expires", "the copy takes no locks of rows, so nothing expires"
	return []timeout{
		role("statement_timeout", "1ms"), user, lock, mariaLock, idle, mariaIdle,
		never(role("idle_in_transaction_session_timeout", "1ms"), open), never(global("idle_transaction_timeout", "1", "0"), open), never(global("idle_readonly_transaction_timeout", "1", "0"), open),
		never(global("net_read_timeout", "1", "30"), waits), never(global("net_write_timeout", "1", "60"), waits),
		never(global("innodb_lock_wait_timeout", "1", "50"), locks),
	}
}

func timeoutFaults() (list []fault) {
	for _, s := range timeouts() {
		f := fault{name: s.name, how: "for the copy's sessions", on: s.on, times: 2, begin: s.begin}
		switch {
		case s.never != "":
			f.how, f.quiet = "for the copy's sessions, for 2 s; "+s.never, 2*time.Second
		case s.locked:
			f.how += ", while the table is locked"
		case s.expires:
			f.how, f.quiet = "for a copy that polls every 2 s and whose connections are reset first, until its sessions have expired", time.Millisecond
			f.begin, f.prepare = s.expire, func(w *world) {
				useProxy(w)
				w.addRole("reader")
				w.copy.dsn = w.engine.dsn(w.database.WithUser("reader", "reader").WithAddr(w.between.address))
				w.copy.args = []string{"-interval", "2s"}
			}
		}
		list = append(list, f)
	}
	return list
}

func (s timeout) begin(w *world) func() {
	w.must(s.set)
	unlock := func() {}
	if s.locked {
		unlock = lockTable(w)
	}
	terminate(w)
	return func() {
		unlock()
		w.must(s.reset)
		terminate(w)
	}
}

// expire waits until the copy has opened sessions, all with the setting, and until the server has
// ended them.
func (s timeout) expire(w *world) func() {
	before := sessions(w)
	w.between.refuse()
	w.must(s.set)
	w.between.accept(w.t)
	var opened []int64
	w.eventually("the copy opens a session", func() bool {
		opened = slices.DeleteFunc(sessions(w), func(id int64) bool { return slices.Contains(before, id) })
		return len(opened) > 0
	})
	w.eventually("the session expires", func() bool {
		now := sessions(w)
		return !slices.ContainsFunc(opened, func(id int64) bool { return slices.Contains(now, id) })
	})
	return func() { w.must(s.reset) }
}

func lockTable(w *world) func() {
	if w.engine.name == mariadb.name {
		return w.hold(`LOCK TABLES items WRITE`, `UNLOCK TABLES`)
	}
	return w.hold(`BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE`, `ROLLBACK`)
}

// hold takes something in a new session, until the returned function is called.
func (w *world) hold(take, release string) func() {
	ctx := context.WithoutCancel(w.t.Context())
	conn, err := w.db.Connx(ctx)
	require.NoError(w.t, err)
	_, err = conn.ExecContext(ctx, take)
	require.NoError(w.t, err)
	return func() {
		_, err := conn.ExecContext(ctx, release)
		require.NoError(w.t, err)
		require.NoError(w.t, conn.Close())
	}
}

func (w *world) password(now string) {
	if w.engine.name == mariadb.name {
		w.must(`ALTER USER reader IDENTIFIED BY '` + now + `'`)
		return
	}
	w.must(`ALTER ROLE reader PASSWORD '` + now + `'`)
}

// readOnly returns the statements that forbid the role reader to write in new sessions, and
// that allow it again.
func readOnly(e engine) (on, off string) {
	if e.name == postgres.name {
		return `ALTER ROLE reader SET default_transaction_read_only = on`, `ALTER ROLE reader RESET default_transaction_read_only`
	}
	return `SET GLOBAL read_only = 1`, `SET GLOBAL read_only = 0`
}
