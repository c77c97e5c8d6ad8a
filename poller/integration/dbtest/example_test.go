package dbtest_test

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// Each test creates its own database on the server that the process shares.
func ExamplePostgres() {
	_ = func(t *testing.T) {
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		db.MustExec(`create table orders (id bigserial primary key, note text)`)
	}
}

// A test that stops or kills its server starts a private one.
func ExampleStartPostgres() {
	_ = func(t *testing.T) {
		server := dbtest.StartPostgres(t, dbtest.Args("-c", "max_connections=5"))
		db := server.NewDatabase(t).Open(t, dbtest.PQ)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if db.Ping() == nil {
			t.Error("the server answers after Kill")
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
}
