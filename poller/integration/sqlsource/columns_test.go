package sqlsource

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// After a column is added or dropped, a new file begins with its own header, and one log
// line names the columns.
func TestChangedColumnsBeginANewSegment(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		dir := t.TempDir()
		files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: "orders", Encoder: filesink.CSV[row.Row]()})
		require.NoError(t, err)
		defer files.Close()
		p := &poller.Poller[row.Row]{
			Name: "orders", Sink: files, Checkpointer: files, Logger: logger,
			Source: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Logger: logger},
		}
		for _, statement := range []string{
			`create table orders (id ` + lab.IDColumn(driver) + `, note varchar(10))`,
			`insert into orders (note) values ('a'), (null)`,
			`alter table orders add column cents int`,
			`insert into orders (note, cents) values ('', 30)`,
			`insert into orders (note, cents) values ('d', 40)`,
			`alter table orders drop column note`,
			`insert into orders (cents) values (50)`,
		} {
			db.MustExec(statement)
			if strings.HasPrefix(statement, "insert") {
				require.NoError(t, p.Drain(t.Context()))
			}
		}
		require.NoError(t, files.Seal(t.Context()))

		names, err := filepath.Glob(filepath.Join(dir, "orders-*.csv"))
		require.NoError(t, err)
		var segments []string
		for _, name := range names {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			segments = append(segments, strings.ReplaceAll(string(text), "\r\n", "\n"))
		}
		require.Equal(t, []string{
			"id,note\n1,a\n2,\n",
			"id,note,cents\n3,\"\",30\n4,d,40\n",
			"id,cents\n5,50\n",
		}, segments)
		require.Equal(t, 2, strings.Count(log.String(), `msg="columns changed"`), log.String())
		require.Contains(t, log.String(), "added=[cents]")
		require.Contains(t, log.String(), "removed=[note]")
	})
}
