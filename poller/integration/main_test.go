// Package integration tests the library against real databases.
package integration

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestMain(m *testing.M) {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it would print each lost connection
		panic(err)
	}
	// Most of the time a test waits for its servers, so more of them run at once than
	// there are cores. The flag -parallel, which is read later, wins.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	dbtest.Main(m)
}
