// Package integration tests the library against real databases.
package integration

import (
	"log/slog"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestMain(m *testing.M) {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it would print each lost connection
		panic(err)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // thousands of lines would bury what failed
	dbtest.Main(m)
}
