// Package lab has what the tests of several packages share: a database for each driver, and
// ways to read from a source.
package lab

import (
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// Main runs the tests of a package. Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to do. It returns the exit code.
func Run(m *testing.M) int {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it prints every lost connection
		panic(err)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // thousands of lines would hide the failure
	return dbtest.Run(m)
}

// Race reports whether the race detector is on. It does not see into programs that a test
// starts.
func Race() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
