//go:build unix

// Package replicas tests several replicas of one pipeline, each in a separate process,
// of which a lease makes one active. The processes are killed, paused and stopped,
// and so is the database.
package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jmoiron/sqlx"
	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/lease"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/poller/status"
	"github.com/artifactofdevotion/devotion/source"
)

// ttl is the time of the lease in the database.
const ttl = 3 * time.Second

// settings are what a replica gets in its environment.
type settings struct {
	name, driver, dsn string
	lock              string // the file of the lease; empty: the lease is in the database
	dir               string // for the files by which test and replicas talk
}

const prefix = "DEVOTION_REPLICA_"

func (s settings) environ() []string {
	return append(os.Environ(), prefix+"NAME="+s.name, prefix+"DRIVER="+s.driver, prefix+"DSN="+s.dsn, prefix+"LOCK="+s.lock, prefix+"DIR="+s.dir)
}

// fromEnvironment returns the settings of this process, if it is a replica.
func fromEnvironment() (settings, bool) {
	get := func(name string) string { return os.Getenv(prefix + name) }
	s := settings{name: get("NAME"), driver: get("DRIVER"), dsn: get("DSN"), lock: get("LOCK"), dir: get("DIR")}
	return s, s.name != ""
}

// run copies the table numbers to the table copies, until it gets a SIGTERM.
func (s settings) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // ends with the test, however that ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	db, err := sqlx.Open(s.driver, s.dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	checkpoint, err := sqlcheckpoint.New(db, "numbers", sqlcheckpoint.Options{})
	if err != nil {
		return err
	}
	beats, err := sqlcheckpoint.New(db, "numbers lease", sqlcheckpoint.Options{History: 1})
	if err != nil {
		return err
	}
	out := &copies{Store: checkpoint, db: db, settings: s}
	p := &poller.Poller[int64]{
		Name: "numbers", Source: numbers{db}, Sink: out, Checkpointer: out,
		Interval: 20 * time.Millisecond, Deadline: 10 * time.Second,
		Lease:  &lease.Heartbeat{Store: beats, TTL: ttl, Name: s.name},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if s.lock != "" {
		p.Lease = &lease.File{Path: s.lock}
	}
	serve, err := s.serve(p)
	if err != nil {
		return err
	}
	defer serve()
	return p.Run(ctx)
}

// serve serves the page and the metrics, and writes the address to a file.
func (s settings) serve(p *poller.Poller[int64]) (stop func(), err error) {
	var page status.Page
	page.Attach(&p.Hooks, p.Status)
	metrics := prometheus.New()
	metrics.Attach(&p.Hooks, p.Status)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	registry := client.NewRegistry()
	registry.MustRegister(metrics)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/", &page)
	server := status.NewServer(mux)
	go func() { _ = server.Serve(l) }()
	return func() { server.Close() }, s.say("address", l.Addr().String())
}

// say writes a file for the test, whole.
func (s settings) say(what, text string) error {
	path := filepath.Join(s.dir, s.name+"."+what)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// numbers reads the table numbers, which one connection fills in order.
type numbers struct{ db *sqlx.DB }

func (n numbers) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[int64], error) {
	b := source.Batch[int64]{From: after, To: after}
	at := int64(0)
	if after != "" {
		if _, err := fmt.Sscan(string(after), &at); err != nil {
			return b, err
		}
	}
	query := fmt.Sprintf("SELECT id FROM numbers WHERE id > %d ORDER BY id LIMIT %d", at, min(limit, 10))
	if err := n.db.SelectContext(ctx, &b.Records, query); err != nil {
		return b, err
	}
	if len(b.Records) > 0 {
		b.To, b.More = source.Cursor(fmt.Sprint(b.Records[len(b.Records)-1])), true
	}
	return b, nil
}

// copies writes numbers with the term in which they were written: from one Load to
// the next. It moves the cursor in the same transaction.
type copies struct {
	*sqlcheckpoint.Store
	settings
	db   *sqlx.DB
	term int
}

func (c *copies) Load(ctx context.Context) (source.Cursor, error) {
	c.term++
	return c.Store.Load(ctx)
}

func (c *copies) Write(ctx context.Context, b source.Batch[int64]) (err error) {
	if len(b.Records) > 0 && c.toPause() {
		ctx, err = c.pause(ctx)
		if err != nil {
			return err
		}
		defer func() { // the write of a replica that was paused
			outcome := "stored"
			if errors.Is(err, poller.ErrConflict) {
				outcome = "refused"
			} else if err != nil {
				outcome = err.Error()
			}
			err = errors.Join(err, c.say("outcome", outcome))
		}()
	}
	tx, err := c.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if moved, err := c.Advance(ctx, tx, b.From, b.To); err != nil || !moved {
		return err
	}
	var rows []string
	for _, n := range b.Records {
		rows = append(rows, fmt.Sprintf("(%d, '%s', %d)", n, c.name, c.term))
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO copies (id, replica, term) VALUES "+strings.Join(rows, ", ")); err != nil {
		return err
	}
	return tx.Commit()
}

// toPause reports whether the test wants the active replica to pause.
func (c *copies) toPause() bool { return os.Remove(filepath.Join(c.dir, "pause")) == nil }

// pause stops the process within a write. Afterwards the write goes on whatever its
// context says, as if it were on its way to the database already.
func (c *copies) pause(ctx context.Context) (context.Context, error) {
	if err := c.say("paused", "yes"); err != nil {
		return ctx, err
	}
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	err := syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	<-goesOn // Kill may return before all threads have stopped: without this, the write might get as far as its lock
	return context.WithoutCancel(ctx), err
}
