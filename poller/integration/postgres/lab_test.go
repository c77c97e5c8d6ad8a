package postgres

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
)

func TestMain(m *testing.M) { lab.Main(m) }

const identity = lab.Identity

var (
	raceDetector       = lab.Race()
	begin              = lab.Begin
	eachPostgresDriver = lab.EachPostgresDriver
	ordersOf           = lab.OrdersOf
	requirePermanent   = lab.RequirePermanent
	unflushed          = lab.Unflushed
	waitFor            = lab.WaitFor
	oneLine            = lab.OneLine
)

func fetch[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int) (source.Batch[T], error) {
	tb.Helper()
	return lab.Fetch(tb, src, after, limit)
}
