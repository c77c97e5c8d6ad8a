package sqlsink

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// crossing is a column that each database has, and its values as literals of SQL.
type crossing struct {
	name   string
	types  [3]string // of Postgres, MariaDB and SQLite
	values []string
}

var crossings = []crossing{
	{"small", [3]string{"smallint", "smallint", "INTEGER"}, []string{"-32768", "32767", "NULL"}},
	{"big", [3]string{"bigint", "bigint", "INTEGER"}, []string{"-9223372036854775808", "9223372036854775807", "NULL"}},
	{"exact", [3]string{"numeric(30,10)", "decimal(30,10)", "TEXT"}, []string{"'-12345678901234567890.0123456789'", "'1.5000000000'", "NULL"}},
	{"flt", [3]string{"real", "float", "REAL"}, []string{"0.5", "-1.25", "NULL"}},
	{"dbl", [3]string{"double precision", "double", "REAL"}, []string{"0.1", "1.7976931348623157e308", "NULL"}},
	{"txt", [3]string{"text", "longtext", "TEXT"}, []string{"'it''s 😀 \"x\"'", "''", "NULL"}},
	{"str", [3]string{"varchar(5)", "varchar(5)", "TEXT"}, []string{"'é😀abc'", "'ab  '", "NULL"}},
	{"day", [3]string{"date", "date", "TEXT"}, []string{"'2026-01-31'", "'9999-12-31'", "NULL"}},
	{"clk", [3]string{"time", "time(6)", "TEXT"}, []string{"'23:59:59.999999'", "'24:00:00'", "NULL"}},
	{"dtm", [3]string{"timestamp", "datetime(6)", "TEXT"}, []string{"'2026-01-31T23:59:59.123456'", "'1000-01-01T00:00:00'", "NULL"}},
	{"doc", [3]string{"jsonb", "longtext", "TEXT"}, []string{`'{"a": [1, "é"]}'`, `'null'`, "NULL"}},
	{"uid", [3]string{"uuid", "uuid", "TEXT"}, []string{"'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'", "NULL"}},
	{"bin", [3]string{"bytea", "longblob", "BLOB"}, []string{"$00ff275c22", "$", "NULL"}},
}

func engineIndex(d dbtest.Driver) int {
	switch {
	case lab.IsPostgres(d):
		return 0
	case lab.IsMariaDB(d):
		return 1
	}
	return 2
}

// create makes a table of the crossings, with the rows of them if filled says so.
func create(db *sqlx.DB, engine int, table string, filled bool) {
	defs := []string{"id bigint not null primary key"}
	for _, c := range crossings {
		defs = append(defs, c.name+" "+c.types[engine])
	}
	db.MustExec("CREATE TABLE " + table + " (" + strings.Join(defs, ", ") + ")")
	for n := range 3 {
		row := []string{string(rune('1' + n))}
		for _, c := range crossings {
			v := c.values[n]
			if hex, ok := strings.CutPrefix(v, "$"); ok {
				v = [3]string{`'\x` + hex + `'`, "x'" + hex + "'", "x'" + hex + "'"}[engine]
			}
			row = append(row, v)
		}
		if filled {
			db.MustExec("INSERT INTO " + table + " VALUES (" + strings.Join(row, ", ") + ")")
		}
	}
}

// Values arrive unchanged in the corresponding types of each database, from each of them.
func TestCrossings(t *testing.T) {
	t.Parallel()
	drivers := []dbtest.Driver{dbtest.PGX, dbtest.MySQL, dbtest.Modernc}
	for _, from := range drivers {
		src := lab.DatabaseFor(t, from).Open(t, from)
		create(src, engineIndex(from), "crossings", true)
		want := readAny(t, src, "crossings")
		for _, to := range append(drivers, dbtest.PQ, dbtest.NCruces) {
			t.Run(string(from+" to "+to), func(t *testing.T) {
				db := lab.DatabaseFor(t, to).Open(t, to)
				create(db, engineIndex(to), "crossings", false)
				s, err := sqlsink.Insert(db, "crossings", "crossings", sqlsink.Options{})
				require.NoError(t, err)
				_, err = s.Load(t.Context())
				require.NoError(t, err)
				require.NoError(t, s.Write(t.Context(), source.Batch[row.Row]{To: "1", Records: want}))
				got := readAny(t, db, "crossings")
				require.Len(t, got, 3)
				for i, r := range got {
					for k := range r.Len() {
						w, g := want[i].Text(k), r.Text(k)
						if r.Columns().Name(k) == "doc" { // jsonb has its own spaces
							w, g = strings.ReplaceAll(w, " ", ""), strings.ReplaceAll(g, " ", "")
						}
						require.Equal(t, w, g, "row %d, column %s", i, r.Columns().Name(k))
						require.Equal(t, want[i].IsNull(k), r.IsNull(k))
					}
				}
			})
		}
	}
}
