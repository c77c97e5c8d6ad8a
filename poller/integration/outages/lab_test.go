package outages

import (
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

func start[T any](t *testing.T, p *poller.Poller[T]) (stop func() (time.Duration, error)) {
	return lab.Start(t, p)
}
