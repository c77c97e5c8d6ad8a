// Package poolers tests sqlsource behind a pooler of connections.
package poolers

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
