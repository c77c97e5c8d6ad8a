package changelog

import (
	"os"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// TestMain runs the tests, or is the process that a torture kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	lab.Main(m)
}
