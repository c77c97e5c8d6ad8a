package sqlsink

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
