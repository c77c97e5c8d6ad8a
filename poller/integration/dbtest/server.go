package dbtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// limit is how long a server may take to start, with its recovery after a kill, to answer
// and to stop. It only ends a test that hangs, so it is generous: the machine may be busy.
const limit = 3 * time.Minute

// orphanLimit is how long the backends of a killed Postgres may take to end.
const orphanLimit = 10 * time.Second

// engine starts servers of one kind.
type engine interface {
	kind() kind
	find() error                                // locates the binaries
	install(s *Server) error                    // creates the data directory
	command(s *Server) (bin string, a []string) // runs the server in the foreground
}

// kind describes Postgres, MariaDB or PgBouncer.
type kind struct {
	name    string
	drivers []Driver
	admin   string         // a database that a new server has
	force   string         // added to DROP DATABASE, disconnects the database's clients
	stop    syscall.Signal // stops the server and disconnects its clients
	quit    syscall.Signal // ends it immediately

	rootless bool // it refuses to run as root
}

// Server is a database server that this package started. Its methods are safe for
// concurrent use.
type Server struct {
	engine   engine
	args     []string
	env      []string
	shared   bool
	dir      string
	user     string
	password string
	owner    owner
	reaper   *reaper
	names    atomic.Int64
	newPort  func() (int, io.Closer)

	port int // does not change after the first start

	mu     sync.Mutex
	claim  io.Closer     // reserves the port
	cmd    *exec.Cmd     // nil if the server is stopped
	exited chan struct{} // closed when cmd has ended
}

func start(e engine, opts []Option) (s *Server, err error) {
	s = &Server{engine: e, user: "dbtest", password: rand.Text(), newPort: claimPort}
	for _, o := range opts {
		o(s)
	}
	if s.owner, s.dir, err = makeDir(e); err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	if s.reaper, err = startReaper(s.dir, e.kind().quit); err != nil {
		os.RemoveAll(s.dir)
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	if err = e.install(s); err == nil {
		err = s.Start()
	}
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// Addr returns the server's address, host:port. Stop, Kill and Start do not change it.
func (s *Server) Addr() string { return address(s.port) }

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Start starts the server after Stop or Kill, and returns when it answers connections. A
// killed Postgres refuses to start until its backends have ended, so Start retries. Start
// does nothing if the server is running.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return nil
	}
	deadline := time.Now().Add(limit)
	for first := s.port == 0; ; {
		if first {
			s.unclaim()
			s.port, s.claim = s.newPort()
		}
		err := s.launch(deadline)
		if err == nil {
			return nil
		}
		// The first start of a server fails for good, unless another process took the port
		// in the meantime. Later starts are retried.
		if clash := bytes.Contains(s.logTail(), []byte("in use")); first && !clash || time.Now().After(deadline) {
			return fmt.Errorf("dbtest: %s does not start: %w\n%s", s.engine.kind().name, err, s.logTail())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// launch starts the process and waits until the server answers.
func (s *Server) launch(deadline time.Time) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	bin, args := s.engine.command(s)
	cmd := s.prepare(exec.Command(bin, append(args, s.args...)...))
	// A pipe that is copied to the log instead of a file: then Wait returns only when all
	// processes of the server have ended. The backends of Postgres outlive a killed
	// postmaster for a moment and still answer.
	cmd.Stdout = struct{ io.Writer }{log}
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = orphanLimit
	if err := cmd.Start(); err != nil {
		log.Close()
		return err
	}
	s.reaper.watch(cmd.Process.Pid)
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	go func() {
		_ = cmd.Wait()
		log.Close()
		close(exited)
		cancel() // whoever has the port may accept connections and not answer
	}()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			s.down()
			return fmt.Errorf("the server exited: %s", cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		if !time.Now().Before(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			s.down()
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

func (s *Server) ping(ctx context.Context) error {
	k := s.engine.kind()
	db, err := s.Database(k.admin).open(ctx, k.drivers[0])
	if err == nil {
		db.Close()
	}
	return err
}

// Stop shuts the server down cleanly: it closes its clients' connections, and its data is
// consistent. It does nothing if the server is stopped.
func (s *Server) Stop() error { return s.halt(s.engine.kind().stop) }

// Kill ends the server with SIGKILL, like a crash or the kernel's out-of-memory killer, and
// returns when all its processes have ended. For Postgres it kills the postmaster; the
// backends notice that and exit, a busy one later than others. After Start all
// committed rows exist. It does nothing if the server is stopped.
func (s *Server) Kill() error { return s.halt(syscall.SIGKILL) }

func (s *Server) halt(sig syscall.Signal) error {
	if s.shared {
		return fmt.Errorf("dbtest: other tests use the shared %s: start a private one", s.engine.kind().name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(sig)
}

func (s *Server) end(sig syscall.Signal) error {
	if !s.running() {
		return nil
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("dbtest: %w", err)
	}
	select {
	case <-s.exited:
	case <-time.After(limit):
		_ = s.cmd.Process.Kill()
		<-s.exited
		s.down()
		return fmt.Errorf("dbtest: %s did not stop within %v, killed\n%s", s.engine.kind().name, limit, s.logTail())
	}
	s.down()
	return nil
}

// running also detects that the server has ended without being stopped.
func (s *Server) running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.exited:
		s.down()
		return false
	default:
		return true
	}
}

func (s *Server) down() {
	s.cmd = nil
	s.reaper.watch(0)
}

// remove ends the server and removes its directory. It does not shut down cleanly, because
// the data is removed.
func (s *Server) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.unclaim()
	return errors.Join(s.end(s.engine.kind().quit), s.reaper.finish(s.dir))
}

func (s *Server) unclaim() {
	if s.claim != nil {
		s.claim.Close()
	}
}

// prepare sets the user, directory and environment of a command. Variables such as PGPORT
// or MYSQL_HOME must not reach it.
func (s *Server) prepare(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "TMPDIR=" + s.dir}, s.env...)
	s.owner.apply(cmd)
	return cmd
}

func (s *Server) runTool(bin string, args ...string) error {
	out, err := s.prepare(exec.Command(bin, args...)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("dbtest: %s: %w\n%s", filepath.Base(bin), err, tail(out))
	}
	return nil
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

func (s *Server) logTail() []byte {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return tail(b)
}

func tail(b []byte) []byte { return b[max(0, len(b)-4<<10):] }

// claimPort returns a port that no process listens on, and reserves it until the claim is
// closed. The port lies below the range that systems use for outgoing connections: one of
// those could otherwise take the port of a stopped server.
func claimPort() (int, io.Closer) {
	for {
		port := 20000 + mrand.IntN(12000)
		if c, err := claim(port); err == nil {
			return port, c
		}
	}
}

// claim reserves a port among test processes, also while its server is stopped. It binds
// the UDP port of that number, which nobody else needs and which the system frees when this
// process ends.
func claim(port int) (io.Closer, error) {
	addr := address(port)
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		c.Close()
		return nil, err
	}
	l.Close()
	return c, nil
}
