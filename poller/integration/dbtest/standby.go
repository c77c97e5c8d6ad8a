package dbtest

import (
	"fmt"
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
	err := s.runTool(filepath.Join(p.bin, "pg_basebackup"), "--pgdata="+s.dataDir(), "--write-recovery-conf", "--wal-method=stream",
		"--checkpoint=fast", "--no-sync", "--dbname="+d.DSN(PGX))
	if err != nil {
		return fmt.Errorf("dbtest: copying the primary: %w", err)
	}
	return nil
}
