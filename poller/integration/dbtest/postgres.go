package dbtest

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

type postgres struct{ bin string } // the directory of its binaries

func (*postgres) kind() kind {
	return kind{name: "Postgres", drivers: []Driver{PGX, PQ}, admin: "postgres", force: " WITH (FORCE)",
		stop: syscall.SIGINT, quit: syscall.SIGQUIT, rootless: true} // fast and immediate shutdown
}

// find chooses the newest version in the directories of Debian, Red Hat and Homebrew, and
// otherwise the one on PATH. DBTEST_POSTGRES names the only directory to look in. A client or a
// wrapper may have the same name, so the binary must report that it is a server.
func (p *postgres) find() error {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	if dir := os.Getenv("DBTEST_POSTGRES"); dir != "" {
		dirs = []string{dir}
	}
	for _, dir := range dirs {
		out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil || !strings.HasPrefix(string(out), "postgres (PostgreSQL)") {
			continue
		}
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err == nil {
			p.bin = dir
			return nil
		}
	}
	return fmt.Errorf("dbtest: no Postgres server found: install the package postgresql (looked for postgres and initdb in %s)",
		strings.Join(append(dirs, "/usr/lib/postgresql/*/bin", "PATH", "DBTEST_POSTGRES"), ", "))
}

// version returns the number in a path such as /usr/lib/postgresql/15/bin, or 0.
func version(dir string) int {
	digits := strings.FieldsFunc(dir, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}

func (p *postgres) install(s *Server) error {
	pw := filepath.Join(s.dir, "password")
	if err := os.WriteFile(pw, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	defer os.Remove(pw)
	if err := s.owner.own(pw); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	return s.runTool(filepath.Join(p.bin, "initdb"), "--pgdata="+s.dataDir(), "--no-sync", "--auth=scram-sha-256",
		"--username="+s.user, "--pwfile="+pw, "--encoding=UTF8", "--locale=C")
}

func (p *postgres) command(s *Server) (string, []string) {
	args := []string{"-D", s.dataDir()}
	for _, set := range []string{
		"port=" + strconv.Itoa(s.port), "listen_addresses=127.0.0.1", "unix_socket_directories=",
		"fsync=off", "full_page_writes=off",
		"max_connections=200", "max_prepared_transactions=20", // the default is 0, and pollers are tested with prepared transactions
	} {
		args = append(args, "-c", set)
	}
	return filepath.Join(p.bin, "postgres"), args
}
