package dbtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// StartStandby starts a hot standby of a private Postgres server, which must be running. It
// follows the primary until SELECT pg_promote() promotes it. It is stopped and removed when
// the test ends.
func StartStandby(tb testing.TB, primary *Server, opts ...Option) *Server {
	tb.Helper()
	as := func(s *Server) { s.user, s.password = primary.user, primary.password }
	return startPrivate(tb, &standby{of: primary}, append([]Option{as}, opts...))
}

type standby struct {
	postgres
	of *Server
}

func (p *standby) install(s *Server) error {
	d := p.of.Database("postgres")
	tool := filepath.Join(p.bin, "pg_basebackup")
	var err error
	if _, missing := exec.LookPath(tool); missing != nil {
		err = p.copyFiles(s, d)
	} else {
		err = s.runTool(tool, "--pgdata="+s.dataDir(), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "--dbname="+d.DSN(PGX))
	}
	if err != nil {
		return fmt.Errorf("dbtest: copying the primary: %w", err)
	}
	return nil
}

// copyFiles does what pg_basebackup does, which some packages lack. Postgres 15 renamed the two functions.
func (p *standby) copyFiles(s *Server, d Database) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	db, err := d.open(ctx, PGX)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx) // the session that begins a backup must end it
	if err != nil {
		return err
	}
	defer conn.Close()
	var number int
	if err := conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&number); err != nil {
		return err
	}
	begin, end := `SELECT pg_backup_start('standby', true)`, `SELECT labelfile FROM pg_backup_stop(false)`
	if number < 150000 {
		begin, end = `SELECT pg_start_backup('standby', true, false)`, `SELECT labelfile FROM pg_stop_backup(false, false)`
	}
	var label string
	if _, err = conn.ExecContext(ctx, begin); err == nil {
		err = s.runTool("cp", "-Rp", p.of.dataDir(), s.dataDir())
	}
	if err == nil {
		err = conn.QueryRowContext(ctx, end).Scan(&label)
	}
	if err == nil {
		err = s.runTool("sh", "-c", `cd "$0" && rm -rf postmaster.pid postmaster.opts pg_replslot/*`, s.dataDir())
	}
	for name, text := range map[string]string{"backup_label": label, "standby.signal": "", "postgresql.auto.conf": "primary_conninfo = '" + d.DSN(PGX) + "'\n"} {
		path := filepath.Join(s.dataDir(), name)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err == nil {
			err = s.owner.own(path)
		}
	}
	return err
}
