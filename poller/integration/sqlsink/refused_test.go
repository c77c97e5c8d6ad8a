package sqlsink

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// single returns a row of an id and one other column.
func single(t testing.TB, name string, typ row.Type, value any) row.Row {
	r, err := row.Of(row.NewColumns([]string{"id", name}, nil, row.Type{}, typ), int64(1), value)
	require.NoError(t, err)
	return r
}

// Tables and types that do not fit are refused before the first row.
func TestRefusedTables(t *testing.T) {
	eachSink(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(string) *sqlsink.Sink[row.Row]) {
		db.MustExec("CREATE TABLE t (id bigint not null primary key, s varchar(3), n decimal(4,2), i smallint)")
		db.MustExec("CREATE TABLE needs (id bigint not null primary key, a integer not null)")
		sqlite := engineIndex(driver) == 2
		for _, c := range []struct {
			table string
			row   row.Row
			all   bool // SQLite, too
			part  string
		}{
			{"missing", order(t, 1, "a"), true, "the table does not exist"},
			{"t", order(t, 1, "a"), true, `the table has no column "name"`},
			{"needs", single(t, "id2", row.Type{}, "a"), true, `the table has no column "id2"`},
			{"t", single(t, "s", row.Type{Name: "varchar(4)", Class: row.String, Length: 4}, "a"), false, `the column "s" of the source has the type varchar(4)`},
			{"t", single(t, "n", row.Type{Name: "numeric(6,3)", Class: row.Decimal, Precision: 6, Scale: 3}, "1"), false, "more digits"},
			{"t", single(t, "i", row.Type{Name: "smallint unsigned", Class: row.Unsigned, Bits: 16}, int64(1)), false, "greater"},
		} {
			if sqlite && !c.all {
				continue
			}
			s := open(c.table)
			cursor, err := s.Load(t.Context())
			require.NoError(t, err)
			err = s.Write(t.Context(), source.Batch[row.Row]{From: cursor, To: "never", Records: []row.Row{c.row}})
			lab.RequirePermanent(t, err, c.part)
		}
		s := open("needs")
		_, err := s.Load(t.Context())
		require.NoError(t, err)
		only, err := row.Of(row.NewColumns([]string{"id"}, nil), int64(1))
		require.NoError(t, err)
		lab.RequirePermanent(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: []row.Row{only}}), `the column "a" of the table is NOT NULL`)
	})
}

// A value that does not fit rejects its record. The error names the column and not the value.
func TestRefusedValues(t *testing.T) {
	eachSink(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(string) *sqlsink.Sink[row.Row]) {
		db.MustExec("CREATE TABLE t (id bigint not null primary key, s varchar(3), n decimal(4,2), i smallint, d date, f " +
			[]string{"real, m timestamp(3)", "float, m datetime(3)", "real, m text"}[engineIndex(driver)] + ", nn integer not null default 7, j " + []string{"jsonb", "json", "text CHECK (json_valid(j))"}[engineIndex(driver)] + ")")
		s := open("t")
		cursor, err := s.Load(t.Context())
		require.NoError(t, err)
		for _, c := range []struct {
			column string
			value  any
			all    bool
		}{
			{"s", "secret", false}, {"s", "abc ", false}, {"n", "1.234", false}, {"n", "123.45", false}, {"i", int64(40000), false},
			{"i", "secret", false}, {"f", 0.123456789012, false}, {"d", "2026-13-99", false}, {"d", "secret", false}, {"m", "2026-01-31T00:00:00.1234", false},
			{"m", "2026-01-31T00:00:00Z junk", false}, {"nn", nil, true}, {"j", "{secret", true}, {"s", []byte("x"), false},
		} {
			if engineIndex(driver) == 2 && !c.all {
				continue
			}
			err := s.Write(t.Context(), source.Batch[row.Row]{From: cursor, To: "never", Records: []row.Row{single(t, c.column, row.Type{}, c.value)}})
			require.ErrorIs(t, err, sink.ErrRejected, "%s: %v", c.column, c.value)
			if c.column != "j" {
				require.ErrorContains(t, err, c.column, "%v", c.value)
			}
			require.NotContains(t, err.Error(), "secret")
		}
		rows, err := read(t.Context(), db, "(SELECT id, s AS name FROM t) x")
		require.NoError(t, err)
		require.Empty(t, rows)
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{From: cursor, To: "1", Records: []row.Row{single(t, "s", row.Type{}, "abc")}}))
		err = s.Write(t.Context(), source.Batch[row.Row]{From: "1", To: "2", Records: []row.Row{single(t, "s", row.Type{}, "abc")}})
		if strings.Contains(t.Name(), "/insert/") {
			require.ErrorIs(t, err, sink.ErrRejected, "the key exists")
			require.NotErrorIs(t, err, sink.ErrConflict)
		} else {
			require.NoError(t, err)
		}
	})
}
