package lab

import (
	"log/slog"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/verify"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Copy is a sink that writes the rows of a table to files, so that package verify can compare them.
type Copy struct {
	*filesink.Dir[row.Row]
	dir string
}

// NewCopy opens a copy in a new directory. It is closed when the test ends.
func NewCopy(tb testing.TB) *Copy {
	tb.Helper()
	c := &Copy{dir: tb.TempDir()}
	var err error
	c.Dir, err = filesink.Open(c.dir, filesink.Options[row.Row]{SegmentAge: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// Verify compares the files with the table.
func (c *Copy) Verify(tb testing.TB, table *sqlsource.Table) verify.Report {
	tb.Helper()
	return Verify(tb, table, c.dir)
}

// Verify compares the files in dir with the table.
func Verify(tb testing.TB, table *sqlsource.Table, dir string) verify.Report {
	tb.Helper()
	r, err := verify.Files(tb.Context(), table, dir, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}
