package sqlsource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// TestPostgresEncodings reads text from databases that do not use UTF-8. In SQL_ASCII the
// bytes have no meaning, and must arrive unchanged.
func TestPostgresEncodings(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	admin := server.Database("postgres").Open(t, dbtest.PGX)
	utf8 := column{ddl: "text", oracle: `encode(convert_to({}, 'UTF8'), 'hex')`}
	ascii := column{ddl: "text", oracle: `encode(convert_to({}, 'SQL_ASCII'), 'hex')`}
	for _, c := range []struct {
		encoding string
		column   column
		driver   dbtest.Driver
		options  string
		err      string
		values   []string
	}{
		{"LATIN1", utf8, dbtest.PQ, "", "", []string{`convert_from('\x636166e9', 'LATIN1')`}},
		{"LATIN1", utf8, dbtest.PGX, "&client_encoding=UTF8", "", []string{`convert_from('\x636166e9', 'LATIN1')`}},
		{"LATIN1", utf8, dbtest.PGX, "", "set client_encoding=UTF8", nil},
		{"EUC_JP", utf8, dbtest.PQ, "", "", []string{`convert_from('\xa4a2', 'EUC_JP')`}},
		{"EUC_JP", utf8, dbtest.PGX, "&client_encoding=UTF8", "", []string{`convert_from('\xa4a2', 'EUC_JP')`}},
		{"SQL_ASCII", ascii, dbtest.PGX, "", "", []string{`'plain'`, `convert_from('\x636166e9220a', 'SQL_ASCII')`, `convert_from('\xc3a9', 'SQL_ASCII')`}},
		{"SQL_ASCII", ascii, dbtest.PQ, "", "22021", []string{`convert_from('\x636166e9', 'SQL_ASCII')`}}, // lib/pq requires UTF-8, and the server refuses
	} {
		t.Run(fmt.Sprint(c.encoding, " ", c.driver, c.options), func(t *testing.T) {
			name := strings.ToLower(strings.Map(func(r rune) rune {
				if r == '/' || r == ' ' || r == '&' || r == '=' || r == '-' {
					return '_'
				}
				return r
			}, t.Name()))
			admin.MustExec(fmt.Sprintf(`CREATE DATABASE %s ENCODING '%s' LOCALE 'C' TEMPLATE template0`, name, c.encoding))
			t.Cleanup(func() { admin.MustExec(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
			db, err := sqlx.Open(c.driver.SQLName(), server.Database(name).DSN(c.driver)+c.options)
			require.NoError(t, err)
			defer db.Close()
			c.column.values, c.column.json = c.values, inString
			c.column.same = func(want, got string) bool { return want == hex(got) }
			types := newTypesTable([]column{c.column})
			types.create(t, db, "")
			if c.err != "" {
				table := &sqlsource.Table{DB: db, Name: "types", Key: []string{"id"}, Ceiling: ceiling.None{}}
				b, err := lab.Fetch(t, table, "", 10)
				if c.values != nil {
					require.NoError(t, err)
					require.Len(t, b.Records, 1) // the row of NULLs
					_, err = lab.Fetch(t, table, b.To, 10)
					require.ErrorAs(t, err, new(*source.BadRecord))
				}
				require.ErrorContains(t, err, c.err)
				return
			}
			types.check(t, db, types.want(t, db))
		})
	}
}

// TestMariaDBCharsets requires that a connection is refused if the server would replace
// characters by question marks.
func TestMariaDBCharsets(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	d.Open(t, dbtest.MySQLText).MustExec(`CREATE TABLE types (id integer PRIMARY KEY)`)
	for charset, name := range map[string]string{"latin1": "latin1", "utf8": "utf8mb3", "binary": "binary"} {
		db, err := sqlx.Open("mysql", d.DSN(dbtest.MySQLText)+"?charset="+charset)
		require.NoError(t, err)
		defer db.Close()
		_, err = lab.Fetch(t, &sqlsource.Table{DB: db, Name: "types", Key: []string{"id"}, Ceiling: ceiling.None{}}, "", 10)
		require.ErrorContains(t, err, "character set is "+name)
		require.ErrorContains(t, err, "set charset=utf8mb4")
	}
}
