// Package lab holds what several test packages of this module share: a database for
// each driver, and ways to read from a source.
package lab

import (
	"log/slog"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// Main runs the tests of a package, for its TestMain.
func Main(m *testing.M) {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it would print each lost connection
		panic(err)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // thousands of lines would bury what failed
	dbtest.Main(m)
}
