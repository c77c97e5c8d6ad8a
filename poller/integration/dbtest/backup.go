package dbtest

import (
	"fmt"
	"path/filepath"
)

// Backup is a copy of a server's data.
type Backup struct {
	server *Server
	dir    string
}

// Backup copies the data of a private server that is down, as a snapshot of its
// disk would. It is removed with the server. Windows lacks the command for it.
func (s *Server) Backup() (Backup, error) {
	b := Backup{s, filepath.Join(s.dir, fmt.Sprintf("backup%d", s.names.Add(1)))}
	return b, s.copyData(s.dataDir(), b.dir)
}

// Restore puts the copy in the place of the server's data. The server must be
// down.
func (b Backup) Restore() error { return b.server.copyData(b.dir, b.server.dataDir()) }

// copyData replaces a directory by a copy of another one.
func (s *Server) copyData(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared || s.running() {
		return fmt.Errorf("dbtest: %s runs; stop it first, a private one", s.engine.name())
	}
	if err := s.runTool("rm", "-rf", to); err != nil {
		return err
	}
	return s.runTool("cp", "-Rp", from, to)
}
