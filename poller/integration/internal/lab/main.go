// Package lab has what the tests of several packages share: a database for each driver, and
// ways to read from a source.
package lab

import (
	"log/slog"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// Main runs the tests of a package. Call it from TestMain.
func Main(m *testing.M) {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it prints every lost connection
		panic(err)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // thousands of lines would hide the failure
	dbtest.Main(m)
}

// Race reports whether the race detector is on. It does not see into programs that a test
// starts.
func Race() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
