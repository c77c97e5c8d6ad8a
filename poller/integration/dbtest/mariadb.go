package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

type mariadb struct{ server, installer string }

func (*mariadb) kind() kind {
	return kind{name: "MariaDB", drivers: []Driver{MySQL, MySQLText}, admin: "mysql", stop: syscall.SIGTERM, quit: syscall.SIGKILL}
}

// find searches PATH and /usr/sbin, which is often not on PATH. A binary named mysqld may
// be a MySQL server, which has another installer: it is skipped.
func (m *mariadb) find() error {
	for _, name := range []string{"mariadbd", "/usr/sbin/mariadbd", "mysqld", "/usr/sbin/mysqld"} {
		server, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(server, "--no-defaults", "--version").Output()
		if err != nil || !strings.Contains(string(out), "MariaDB") {
			continue
		}
		for _, name := range []string{"mariadb-install-db", "mysql_install_db"} {
			if installer, err := exec.LookPath(name); err == nil {
				m.server, m.installer = server, installer
				return nil
			}
		}
	}
	return fmt.Errorf("dbtest: no MariaDB server found: install the package mariadb-server (looked for mariadbd, mysqld and mariadb-install-db on PATH)")
}

func (m *mariadb) install(s *Server) error {
	// With --force the installer does not look up the name of the machine, which it has no use for.
	err := s.runTool(m.installer, append(m.settings(s), "--auth-root-authentication-method=normal", "--skip-test-db", "--force")...)
	if err != nil {
		return err
	}
	// The server runs this script at each start. It has no other way to set a password
	// before it listens.
	script := fmt.Sprintf("CREATE USER IF NOT EXISTS '%[1]s'@'%%' IDENTIFIED BY '%[2]s';\n"+
		"GRANT ALL ON *.* TO '%[1]s'@'%%' WITH GRANT OPTION;\n"+
		"DROP USER IF EXISTS ''@'localhost';\nDROP USER IF EXISTS 'root'@'localhost';\n", s.user, s.password)
	if err := os.WriteFile(m.script(s), []byte(script), 0o600); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	return nil
}

func (m *mariadb) command(s *Server) (string, []string) {
	return m.server, append(m.settings(s),
		"--port="+strconv.Itoa(s.port), "--bind-address=127.0.0.1", "--socket=socket", // relative to the data directory, because socket paths must be short
		"--pid-file="+filepath.Join(s.dir, "pid"), "--init-file="+m.script(s),
		"--skip-name-resolve", "--skip-log-bin", "--default-time-zone=+00:00",
		"--max-connections=200")
}

// settings are the arguments that the installer and the server share. --no-defaults must be
// the first. A log that is flushed but not synced at each commit survives kill -9.
func (m *mariadb) settings(s *Server) []string {
	args := []string{"--no-defaults", "--datadir=" + s.dataDir(),
		"--innodb-log-file-size=32M", "--innodb-flush-log-at-trx-commit=2", "--skip-innodb-doublewrite",
		"--character-set-server=utf8mb4"}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	return args
}

func (m *mariadb) script(s *Server) string { return filepath.Join(s.dir, "init.sql") }
