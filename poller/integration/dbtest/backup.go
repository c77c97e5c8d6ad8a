package dbtest

import (
	"fmt"
	"path/filepath"
)

// Backup copies the data directory of a private server, like a snapshot of its disk, and
// returns a function that replaces the data by the copy, any number of times. The server
// must be stopped during each of the calls.
func (s *Server) Backup() (restore func() error, err error) {
	dir := filepath.Join(s.dir, fmt.Sprintf("backup%d", s.names.Add(1)))
	return func() error { return s.copyData(dir, s.dataDir()) }, s.copyData(s.dataDir(), dir)
}

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
