package lab

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller"
)

// Start runs a poller. The returned function cancels its context and returns the error of
// Run, or an error if Run does not end.
func Start[T any](t *testing.T, p *poller.Poller[T]) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(WaitLimit):
			return errors.New("Run does not end with its context")
		}
	})
}

// WaitFor waits until ok returns true.
func WaitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(WaitLimit); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the condition did not become true")
		}
	}
}

// Reach waits until a counter has reached n, or the test has failed. It has no limit: how long the writers of a
// torture take is up to its flags.
func Reach(t *testing.T, counter *atomic.Int64, n int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for counter.Load() < n && !t.Failed() {
		<-tick.C
	}
}

// Begin opens a transaction and runs statements in it. It is rolled back when the
// test ends.
func Begin(t *testing.T, db *sqlx.DB, statements ...string) *sql.Tx {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	for _, s := range statements {
		if _, err := tx.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return tx
}

// Identity creates the Postgres table orders with a generated key.
const Identity = `create table orders (id bigint generated always as identity primary key, v text)`

// OrdersOf creates the Postgres table orders with n rows; their ids start at 1.
func OrdersOf(db *sqlx.DB, n int) {
	db.MustExec(Identity)
	db.MustExec(`insert into orders (v) select 'v' from generate_series(1, $1::int)`, n)
}

// OneLine replaces line breaks in a text by spaces.
func OneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// Module is the path of the root module.
const Module = "github.com/artifactofdevotion/devotion"

// RepositoryRoot returns the directory of the root module. The package under test is three
// levels below it, and tests run in the directory of their package.
func RepositoryRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := filepath.Abs("../../..")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "go.work"))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// CloseIdle closes the connections of a pool that nobody uses. After a crash of the server they are dead.
func CloseIdle(db *sqlx.DB) {
	db.SetMaxIdleConns(-1)
	db.SetMaxIdleConns(2) // as before: the default
}
