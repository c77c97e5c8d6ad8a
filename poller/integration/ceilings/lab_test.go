package ceilings

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	identity  = lab.Identity
	waitLimit = lab.WaitLimit
)

var (
	eachDriver       = lab.EachDriver
	isMariaDB        = lab.IsMariaDB
	isPostgres       = lab.IsPostgres
	pollOnce         = lab.PollOnce
	requirePermanent = lab.RequirePermanent
	rowJSON          = lab.RowJSON
	silent           = lab.Silent
)

func fetch[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int) (source.Batch[T], error) {
	tb.Helper()
	return lab.Fetch(tb, src, after, limit)
}

func readAll[T any](tb testing.TB, src source.Source[T], after source.Cursor, limit int, text func(T) string) ([]string, source.Cursor) {
	tb.Helper()
	return lab.ReadAll(tb, src, after, limit, text)
}

func start[T any](t *testing.T, p *poller.Poller[T]) (stop func() error) {
	return lab.Start(t, p)
}
