//go:build linux

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// ended is a run of dbtofile to its end.
type ended struct {
	code int
	text string // standard output and standard error
}

// run runs dbtofile to its end. Environ has lines such as "DBTOFILE_DSN=...".
func run(t *testing.T, environ []string, args ...string) ended {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), dbtofile(t), args...)
	cmd.Env = append(os.Environ(), environ...)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return ended{codeOf(cmd), string(text)}
}

// copied copies a table and requires that -verify finds each of its rows in the files.
func copied(t *testing.T, dsn string, args ...string) {
	t.Helper()
	for _, action := range []string{"-once", "-verify"} {
		r := run(t, []string{dsn}, append(args, action)...)
		require.Zero(t, r.code, "%s: %s", action, r.text)
	}
}

// records returns the objects in the complete files of a directory.
func records(t *testing.T, dir string) (all []map[string]any) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	for _, path := range slices.Sorted(slices.Values(paths)) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		for decoder.More() {
			var one map[string]any
			require.NoError(t, decoder.Decode(&one))
			all = append(all, one)
		}
	}
	return all
}

// eachInput runs a test on a new database of each engine.
func eachInput(t *testing.T, f func(t *testing.T, e engine, db *sqlx.DB, dsn string)) {
	for _, e := range databases {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			database := lab.DatabaseFor(t, e.driver)
			f(t, e, database.Open(t, e.driver), "DBTOFILE_DSN="+e.dsn(database))
		})
	}
}

// inputRow begins a row of the part input.
func inputRow(t *testing.T, e engine, name, how string) *row {
	return results.row(t, fault{part: "input", name: name, how: how}, e.name)
}

// A table has as many columns as its database allows, or one less in SQLite, where sqlsource reads
// one more.
func TestManyColumns(t *testing.T) {
	t.Parallel()
	most := map[string]int{postgres.name: 1600, mariadb.name: 1017, sqlite.name: 1999}
	eachInput(t, func(t *testing.T, e engine, db *sqlx.DB, dsn string) {
		n := most[e.name]
		r := inputRow(t, e, "many columns", fmt.Sprintf("a table of %d columns", n))
		var columns, values []string
		for i := 1; i < n; i++ {
			columns = append(columns, fmt.Sprintf("c%d smallint", i))
			values = append(values, fmt.Sprint(i))
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(e.create, "CREATE TABLE items ("), ",")
		db.MustExec("CREATE TABLE wide (" + key + ", " + strings.Join(columns, ", ") + ")")
		names := strings.ReplaceAll(strings.Join(columns, ", "), " smallint", "")
		for range 3 {
			db.MustExec("INSERT INTO wide (" + names + ") VALUES (" + strings.Join(values, ", ") + ")")
		}
		dir := t.TempDir()
		copied(t, dsn, "-table", "wide", "-key", "id", "-out", dir)
		rows, equal := records(t, dir), 0
		assert.Len(t, rows, 3)
		for i, row := range rows {
			r.times++
			want := map[string]any{"id": json.Number(fmt.Sprint(i + 1))}
			for c := 1; c < n; c++ {
				want[fmt.Sprintf("c%d", c)] = json.Number(fmt.Sprint(c))
			}
			if maps.Equal(want, row) {
				equal++
			}
		}
		r.note, r.exit, r.verify = fmt.Sprintf("%d of 3 rows are equal", equal), "0", "0"
		assert.Equal(t, 3, equal)
	})
}

// hostileText breaks what is quoted carelessly.
var hostileText = []string{
	`'; DROP TABLE items; --`, `" OR 1=1 --`, "`; DROP TABLE items; #", `\'; --`, `$1`, `?`, `:id`, `%s%n%d`, `{{.}}`, `${HOME}`, `$(reboot)`,
	`a,b`, `"quoted"`, "line\nbreak", "carriage\rreturn", "tab\t", `{"id":1}`, `</script>`, `../../etc/passwd`, "ＦＵＬＬ", "\u202egnp.exe", "nul?",
}

// Values that break what is quoted carelessly are copied as they are.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	eachInput(t, func(t *testing.T, e engine, db *sqlx.DB, dsn string) {
		r := inputRow(t, e, "hostile values", "quotes, comments, placeholders, format verbs, line breaks")
		db.MustExec(e.create)
		for _, text := range hostileText {
			db.MustExec(db.Rebind("INSERT INTO items (note) VALUES (?)"), text)
		}
		dir := t.TempDir()
		copied(t, dsn, "-table", "items", "-key", "id", "-out", dir, "-batch", "3")
		rows, equal := records(t, dir), 0
		require.Len(t, rows, len(hostileText))
		for i, text := range hostileText {
			if assert.Equal(t, text, rows[i]["note"]) {
				equal++
			}
		}
		r.times, r.exit, r.verify = len(hostileText), "0", "0"
		r.note = fmt.Sprintf("%d of %d are copied as they are", equal, len(hostileText))
	})
}

// The name of a table and of its columns is such a text.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	eachInput(t, func(t *testing.T, e engine, db *sqlx.DB, dsn string) {
		r := inputRow(t, e, "hostile names", "the names of a table, its key and its column have quotes, comments, placeholders, line breaks")
		db.MustExec(e.create)
		db.MustExec(`INSERT INTO items (note) VALUES ('it is still here')`)
		quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
		if e.name == mariadb.name {
			quote = func(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
		}
		copies, codes := 0, map[int]int{}
		for _, name := range hostileText {
			if e.name == mariadb.name && strings.TrimRight(name, " \t\r\n") != name { // MariaDB allows no such name
				continue
			}
			create := strings.NewReplacer("items", quote(name), "note", quote(name+"?"), "id ", quote("id "+name)+" ").Replace(e.create)
			db.MustExec(create)
			insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES ('one'), ('two')", quote(name), quote(name+"?"))
			db.MustExec(insert)
			dir := t.TempDir()
			r.times++
			once := run(t, []string{dsn}, "-table="+name, "-key=id "+name, "-out", dir, "-once")
			codes[once.code]++
			if once.code != 0 {
				t.Logf("%q: %d: %s", name, once.code, once.text)
				continue
			}
			copies++
			copied(t, dsn, "-table="+name, "-key=id "+name, "-out", dir)
			assert.Len(t, records(t, dir), 2, "%q", name)
		}
		var left string
		require.NoError(t, db.Get(&left, "SELECT note FROM items"))
		assert.Equal(t, "it is still here", left)
		assert.NotZero(t, copies)
		r.exit = byCode(codes)
		r.note = fmt.Sprintf("%d are copied, the others are refused; another table has %q", copies, left)
	})
}

// Text that is not valid in UTF-8 arrives as its bytes, in base64, and text of another encoding
// arrives in UTF-8.
func TestInvalidText(t *testing.T) {
	t.Parallel()
	eachInput(t, func(t *testing.T, e engine, db *sqlx.DB, dsn string) {
		create, invalid, how := e.create, `CAST(x'61ff62' AS TEXT)`, "bytes that are not UTF-8 in a column of type TEXT"
		var want any = map[string]any{"base64": "Yf9i"}
		switch e.name {
		case postgres.name:
			database := inASCII(t)
			db, dsn = database.Open(t, e.driver), "DBTOFILE_DSN="+e.dsn(database)
			invalid, how = `convert_from('\x61ff62', 'SQL_ASCII')`, "bytes that are not UTF-8 in a database whose encoding is SQL_ASCII"
		case mariadb.name:
			create += ` CHARACTER SET latin1`
			invalid, how, want = `_latin1 x'61ff62'`, "bytes that are not UTF-8 in a table whose encoding is latin1", "aÿb"
		}
		r := inputRow(t, e, "invalid text", how)
		db.MustExec(create)
		db.MustExec(`INSERT INTO items (note) VALUES ('before'), (` + invalid + `), ('after')`)
		dir := t.TempDir()
		copied(t, dsn, "-table", "items", "-key", "id", "-out", dir)
		var notes []any
		for _, one := range records(t, dir) {
			notes = append(notes, one["note"])
		}
		require.Len(t, notes, 3)
		r.times, r.exit, r.verify, r.note = 1, "0", "0", fmt.Sprintf("arrives as %v", notes[1])
		assert.Equal(t, []any{"before", want, "after"}, notes)
	})
}

// inASCII creates a database of Postgres whose text has no encoding.
func inASCII(t *testing.T) dbtest.Database {
	server := dbtest.Postgres(t)
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_"))
	admin := server.Database("postgres").Open(t, dbtest.PGX)
	admin.MustExec(`CREATE DATABASE ` + name + ` ENCODING SQL_ASCII TEMPLATE template0`)
	t.Cleanup(func() { admin.MustExec(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
	return server.Database(name)
}
