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
		{"LATIN1", utf8, dbtest.PGX, "", "", []string{`convert_from('\x636166e9', 'LATIN1')`}},
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
			db.SetMaxOpenConns(1)
			var before, after string
			require.NoError(t, db.Get(&before, `SHOW client_encoding`))
			types.check(t, db, types.want(t, db))
			require.NoError(t, db.Get(&after, `SHOW client_encoding`))
			require.Equal(t, before, after, "the connection is set back")
		})
	}
}

// TestMariaDBCharsets reads text and keys through connections of other character sets, which would
// replace characters by question marks. They have their own character set again afterwards.
func TestMariaDBCharsets(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	admin := d.Open(t, dbtest.MySQLText)
	admin.MustExec(`CREATE TABLE types (k varchar(20) PRIMARY KEY) COLLATE utf8mb4_bin`)
	admin.MustExec(`INSERT INTO types VALUES ('a'), ('café'), ('€😀'), ('😀1'), ('😀2')`)
	for _, charset := range []string{"latin1", "utf8", "binary"} {
		db, err := sqlx.Open("mysql", d.DSN(dbtest.MySQLText)+"?charset="+charset)
		require.NoError(t, err)
		defer db.Close()
		db.SetMaxOpenConns(1)
		var before, after string
		const variables = `SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_results, @@collation_connection)`
		require.NoError(t, db.Get(&before, variables))
		got, _ := lab.ReadAll(t, &sqlsource.Table{DB: db, Name: "types", Key: []string{"k"}, Ceiling: ceiling.None{}}, "", 1, lab.RowJSON)
		require.Equal(t, []string{`{"k":"a"}`, `{"k":"café"}`, `{"k":"€😀"}`, `{"k":"😀1"}`, `{"k":"😀2"}`}, got)
		require.NoError(t, db.Get(&after, variables))
		require.Equal(t, before, after)
	}
}
