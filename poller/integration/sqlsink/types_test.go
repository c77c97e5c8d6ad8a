package sqlsink

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func everyByte(from, to int) string {
	var b strings.Builder
	for c := from; c < to; c++ {
		b.WriteByte(byte(c))
	}
	return b.String()
}

func hex(s string) string { return fmt.Sprintf("%x", s) }

func everyASCII() string { return "'" + strings.ReplaceAll(everyByte(1, 0x80), "'", "''") + "'" }

// sqliteTypes stores every storage class in columns of every affinity.
func sqliteTypes() (types []typed) {
	values := []string{"0", "-1", "9223372036854775807", "-9223372036854775808", "20260101", "1767225600123", "0.1", "1.5", "5e-324", "9e999", "9007199254740993.0",
		"''", "'text é'", "'2026-01-31'", "'2026-01-31 12:00:00'", "'2026-02-30'", "'true'", "'007'", "'1.10'", "'1e5'", "'{ \"a\" : 1 }'",
		"CAST(x'636166e9' AS TEXT)", "CAST(x'610062' AS TEXT)", "x''", "x'00'", "x'" + hex(everyByte(0, 0x100)) + "'", "zeroblob(100000)"}
	for _, ddl := range []string{"", "INTEGER", "REAL", "DOUBLE", "TEXT", "VARCHAR(3)", "BLOB", "NUMERIC", "DECIMAL(10,5)", "DATE", "DATETIME", "TIMESTAMP", "TIME", "BOOLEAN", "JSON", "ANY"} {
		types = append(types, typed{ddl, values})
	}
	return types
}

// Each type of each database arrives unchanged in a table of the same types.
func TestTypes(t *testing.T) {
	eachSink(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB, open func(string) *sqlsink.Sink[row.Row]) {
		types, null := sqliteTypes(), ""
		switch {
		case lab.IsPostgres(driver):
			types, null = postgresTypes(), " NULL"
			for _, s := range []string{`CREATE TYPE mood AS ENUM ('so "so"', 'happy', '')`, `CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE > 0)`,
				`CREATE DOMAIN moment AS timestamptz`, `CREATE TYPE pair AS (a integer, b text)`} {
				db.MustExec(s)
			}
			types = known(t, db, types)
		case lab.IsMariaDB(driver):
			types, null = mariadbTypes(), " NULL"
			db.SetMaxOpenConns(1)
			db.MustExec(`SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'`)
		}
		defs, rows := []string{"id integer not null primary key"}, 0
		for i, c := range types {
			defs, rows = append(defs, fmt.Sprintf("c%d %s%s", i, c.ddl, null)), max(rows, len(c.values)+1)
		}
		db.MustExec("CREATE TABLE types (" + strings.Join(defs, ", ") + ")")
		db.MustExec("CREATE TABLE copy (" + strings.Join(defs, ", ") + ")")
		for n := range rows {
			values := []string{fmt.Sprint(n)}
			for _, c := range types {
				value := "NULL"
				if 0 < n && n <= len(c.values) {
					value = c.values[n-1]
				}
				values = append(values, value)
			}
			db.MustExec("INSERT INTO types VALUES (" + strings.Join(values, ", ") + ")")
		}
		s := open("copy")
		_, err := s.Load(t.Context())
		require.NoError(t, err)
		want := readAny(t, db, "types")
		require.Len(t, want, rows)
		require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: want}))
		got := readAny(t, db, "copy")
		require.Len(t, got, rows)
		for i, r := range got {
			for k := range r.Len() {
				if k > 0 && r.Text(k) != want[i].Text(k) || r.IsNull(k) != want[i].IsNull(k) {
					t.Errorf("%s: %.80q, want %.80q", types[k-1].ddl, r.Text(k), want[i].Text(k))
				}
			}
			if !t.Failed() {
				require.True(t, want[i].Equal(r), "row %d: the forms differ", i)
			}
		}
	})
}

func readAny(t testing.TB, db *sqlx.DB, table string) []row.Row {
	src := lab.Silent(db, table, "id")
	src.Ceiling = ceiling.None{}
	b, err := lab.Fetch(t, src, "", 1000)
	require.NoError(t, err)
	return b.Records
}

// known leaves out the types and values that are newer than a server.
func known(t *testing.T, db *sqlx.DB, types []typed) []typed {
	t.Helper()
	var old bool
	require.NoError(t, db.Get(&old, `SELECT current_setting('server_version_num')::int < 140000`))
	if !old {
		return types
	}
	types = slices.DeleteFunc(types, func(c typed) bool { return strings.Contains(c.ddl, "multirange") })
	for i, c := range types {
		if c.ddl == "numeric" {
			types[i].values = slices.DeleteFunc(c.values, func(v string) bool { return strings.Contains(v, "Infinity") })
		}
	}
	return types
}
