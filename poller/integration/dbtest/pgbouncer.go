package dbtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// StartPgBouncer starts a PgBouncer in front of a Postgres server. mode is session, transaction
// or statement. A database is reached through it by the address that Addr returns:
//
//	direct := server.NewDatabase(t)
//	pooled := direct.WithAddr(dbtest.StartPgBouncer(t, server, "transaction").Addr())
//
// It gives each transaction the session of the server that has been idle for longest, so that
// consecutive ones run in different sessions. It is stopped and removed when the test ends.
func StartPgBouncer(tb testing.TB, server *Server, mode string, opts ...Option) *Server {
	tb.Helper()
	as := func(s *Server) { s.user, s.password = server.user, server.password }
	return startPrivate(tb, &pgbouncer{server: server, mode: mode}, append([]Option{as}, opts...))
}

type pgbouncer struct {
	bin, mode string
	server    *Server
}

func (*pgbouncer) kind() kind {
	return kind{name: "PgBouncer", drivers: []Driver{PGX, PQ}, admin: "postgres", stop: syscall.SIGTERM, quit: syscall.SIGKILL, rootless: true}
}

func (p *pgbouncer) find() error {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			p.bin = path
			return nil
		}
	}
	return errors.New("dbtest: no PgBouncer found: install the package pgbouncer (looked for pgbouncer on PATH and in /usr/sbin)")
}

func (p *pgbouncer) install(s *Server) error {
	users := filepath.Join(s.dir, "users")
	err := os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", s.user, s.password), 0o600)
	return errors.Join(err, s.owner.own(users))
}

// command writes the settings again, because the port is known only now. lib/pq sends
// extra_float_digits when it connects, which PgBouncer refuses unless it is told to ignore it.
func (p *pgbouncer) command(s *Server) (string, []string) {
	file := filepath.Join(s.dir, "pgbouncer.ini")
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
default_pool_size = 4
server_round_robin = 1
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
`, p.server.port, strconv.Itoa(s.port), filepath.Join(s.dir, "users"), p.mode)
	if err := errors.Join(os.WriteFile(file, []byte(settings), 0o600), s.owner.own(file)); err != nil {
		return p.bin, []string{err.Error()} // which ends it
	}
	return p.bin, []string{file}
}
