package dbtest

import (
	"fmt"
	"path/filepath"
)

// Backup is a copy of a server's data directory. [Server.Backup] creates it; it is removed
// with the server.
type Backup struct {
	server *Server
	dir    string
}

// Backup copies the data directory of a private server, like a snapshot of its disk. The
// server must be stopped. On Windows it fails, because the cp command is missing.
func (s *Server) Backup() (Backup, error) {
	b := Backup{s, filepath.Join(s.dir, fmt.Sprintf("backup%d", s.names.Add(1)))}
	return b, s.copyData(s.dataDir(), b.dir)
}

// Restore replaces the server's data by the copy. The server must be stopped. The copy can
// be restored again.
func (b Backup) Restore() error { return b.server.copyData(b.dir, b.server.dataDir()) }

// copyData replaces the directory to by a copy of the directory from.
func (s *Server) copyData(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared || s.running() {
		return fmt.Errorf("dbtest: %s is running or shared: stop it first, and use a private server", s.engine.kind().name)
	}
	if err := s.runTool("rm", "-rf", to); err != nil {
		return err
	}
	return s.runTool("cp", "-Rp", from, to)
}
