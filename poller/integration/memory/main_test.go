package memory

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv("MEMORY_HOG") != "" {
		hog()
		return
	}
	dsn := os.Getenv("MEMORY_DSN")
	if dsn == "" {
		lab.Main(m)
		return
	}
	if err := copyTable(context.Background(), dbtest.Driver(os.Getenv("MEMORY_DRIVER")), dsn, os.Getenv("MEMORY_DIR")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
