package pglog_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/row"
)

// start starts a server whose log can be decoded.
func start(tb testing.TB, args ...string) *dbtest.Server {
	tb.Helper()
	return dbtest.StartPostgres(tb, logical(args...))
}

// logical are the settings of a server whose log can be decoded.
func logical(more ...string) dbtest.Option {
	return dbtest.Args(append([]string{"-c", "wal_level=logical", "-c", "max_replication_slots=50", "-c", "max_wal_senders=20"}, more...)...)
}

// open returns a source of a new slot. It is closed, and the slot dropped, when the test ends.
func open(tb testing.TB, db *sqlx.DB, tables ...string) *pglog.Source {
	tb.Helper()
	s := &pglog.Source{DB: db, Slot: "s_" + fmt.Sprint(slots.Add(1)), Publication: "p", Tables: tables, Logger: slog.New(slog.DiscardHandler)}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Log(err)
		}
	})
	return s
}

// read reads to the end of the log.
func read(tb testing.TB, s *pglog.Source, after source.Cursor, limit int) ([]row.Change, source.Cursor) {
	tb.Helper()
	var all []row.Change
	for {
		b, err := s.Fetch(context.Background(), after, limit)
		require.NoError(tb, err)
		require.NoError(tb, b.To.Validate())
		require.LessOrEqual(tb, len(b.Records), limit)
		all = append(all, b.Records...)
		after = b.To
		s.Saved(after)
		if !b.More && b.Held == nil && len(b.Records) == 0 {
			return all, after
		}
	}
}

// texts returns changes as JSON, without what differs from run to run.
func texts(tb testing.TB, changes []row.Change) (list []string) {
	tb.Helper()
	for _, c := range changes {
		text := c.Op.String() + " " + c.Table
		for _, r := range []row.Row{c.Key, c.Row, c.Old} {
			if r.Columns() == nil {
				text += " -"
				continue
			}
			text += " {"
			for i := range r.Len() {
				v := r.Text(i)
				if r.IsNull(i) {
					v = "NULL"
				} else if r.IsUnchanged(i) {
					v = "UNCHANGED"
				}
				if i > 0 {
					text += ", "
				}
				text += v
			}
			text += "}"
		}
		list = append(list, text)
	}
	return list
}
