package checkpoints

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

var compatWrite = flag.Bool("compat.write", false, "write what this version stores to testdata/compat/new, see testdata/compat/README.md")

const compatRule = "the stored format has changed: see testdata/compat/README.md for the steps by which a rollback loses nothing"

// stored maps a format's name to the function that writes it to a directory.
var stored = map[string]func(t *testing.T, dir string){
	"filesink":       storeFiles,
	"filecheckpoint": storeFileCheckpoint,
	"sqlcheckpoint":  storeSQLCheckpoint,
	"cursors":        storeCursors,
}

// This version stores the same format as the last version, byte for byte apart from the
// masks. So each reads what the other has written.
func TestWhatIsStoredHasNotChanged(t *testing.T) {
	t.Parallel()
	versions := compatVersions(t)
	last := filepath.Join("..", "testdata", "compat", versions[len(versions)-1])
	for name, store := range stored {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.Mkdir(dir, 0o700))
			store(t, dir)
			for _, lock := range []string{"orders.lock", "open/lock", "crashed/lock"} { // not part of the format
				if err := os.Remove(filepath.Join(dir, lock)); !os.IsNotExist(err) {
					require.NoError(t, err)
				}
			}
			if *compatWrite {
				require.NoError(t, os.CopyFS(filepath.Join("..", "testdata", "compat", "new", name), os.DirFS(dir)))
				return
			}
			require.Equal(t, masked(t, filepath.Join(last, name)), masked(t, dir), compatRule)
		})
	}
}

// compatVersions returns the versions that testdata contains, oldest first.
func compatVersions(t *testing.T) (versions []string) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "compat", "README.md"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^\| `+"`([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		versions = append(versions, m[1])
	}
	require.NotEmpty(t, versions)
	return versions
}

// Parts that differ from run to run.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`\b(?:[A-Z2-7]{12}|[A-Z2-7]{26})\b`), "<token>"}, // of any length: no reader interprets it
	{regexp.MustCompile(`(/[!+*][0-9a-f]{8},)[0-9a-f.]+`), "$1<marks of the file>"},
	{regexp.MustCompile(`(@\d+;.*;)[0-9a-f]{8}"`), `$1<sum>"`},
	{regexp.MustCompile(`^{"crc32c":"[0-9a-f]{8}"`), `{"crc32c":"<sum>"`},
}

// masked returns the contents of the files in dir by name, with the masks applied.
func masked(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range masks {
			text = m.what.ReplaceAll(text, []byte(m.by))
		}
		name, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(name)] = string(text)
		return err
	}))
	return all
}

// This version continues exactly where each older version stopped.
func TestWhatOlderVersionsStored(t *testing.T) {
	t.Parallel()
	for _, version := range compatVersions(t) {
		for name, read := range map[string]func(t *testing.T, dir string){
			"filesink":       readFiles,
			"filecheckpoint": readFileCheckpoint,
			"sqlcheckpoint":  readSQLCheckpoint,
			"cursors":        readCursors,
		} {
			t.Run(version+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "testdata", "compat", version, name))))
				read(t, dir)
			})
		}
	}
}

func compatBatch(from, to int) source.Batch[int] {
	b := source.Batch[int]{From: compatCursor(from), To: compatCursor(to)}
	for i := from + 1; i <= to; i++ {
		b.Records = append(b.Records, i)
	}
	return b
}

func compatCursor(n int) source.Cursor {
	if n == 0 {
		return ""
	}
	return source.Cursor(fmt.Sprintf("row %d", n))
}

// storeFiles writes two directories: one with complete and open segments, and a copy of it
// from before a complete segment was renamed.
func storeFiles(t *testing.T, dir string) {
	work, crashed := filepath.Join(dir, "open"), filepath.Join(dir, "crashed")
	f, err := filesink.Open(work, filesink.Options[int]{Name: "numbers", SegmentRows: 5})
	require.NoError(t, err)
	_, err = f.Load(t.Context())
	require.NoError(t, err)
	for i := range 7 {
		require.NoError(t, f.Write(t.Context(), compatBatch(3*i, 3*i+3)))
		if i == 1 {
			require.NoError(t, os.CopyFS(crashed, os.DirFS(work)))
		}
	}
	require.NoError(t, f.Close())
}

func readFiles(t *testing.T, dir string) {
	for name, end := range map[string]int{"open": 21, "crashed": 6} {
		past, err := filesink.History(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, compatCursor(end), past[0].Cursor)
		require.False(t, past[0].Time.IsZero())

		f, err := filesink.Open(filepath.Join(dir, name), filesink.Options[int]{Name: "numbers", SegmentRows: 5})
		require.NoError(t, err)
		at, err := f.Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, compatCursor(end), at)
		require.NoError(t, f.Write(t.Context(), compatBatch(end, end+10)))
		require.NoError(t, f.Seal(t.Context()))
		require.NoError(t, f.Close())
		segments, err := filepath.Glob(filepath.Join(dir, name, "*.jsonl"))
		require.NoError(t, err)
		var got, want strings.Builder
		for _, s := range segments {
			text, err := os.ReadFile(s)
			require.NoError(t, err)
			got.Write(text)
		}
		for i := range end + 10 {
			fmt.Fprintln(&want, i+1)
		}
		require.Equal(t, want.String(), got.String(), "each once, in order")
	}
}

func storeFileCheckpoint(t *testing.T, dir string) {
	f, err := filecheckpoint.Open(filepath.Join(dir, "orders"), filecheckpoint.Options{History: 3})
	require.NoError(t, err)
	_, err = f.Load(t.Context())
	require.NoError(t, err)
	for i := range 3 {
		require.NoError(t, f.Save(t.Context(), compatCursor(i), compatCursor(i+1)))
	}
	require.NoError(t, f.Rewind(compatCursor(2)))
	require.NoError(t, f.Close())
}

func readFileCheckpoint(t *testing.T, dir string) {
	f, err := filecheckpoint.Open(filepath.Join(dir, "orders"), filecheckpoint.Options{History: 4})
	require.NoError(t, err)
	at, err := f.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, compatCursor(2), at)
	require.NoError(t, f.Save(t.Context(), at, compatCursor(9)))
	past, err := f.History()
	require.NoError(t, err)
	require.Equal(t, []source.Cursor{compatCursor(9), compatCursor(2), compatCursor(3), compatCursor(2)},
		[]source.Cursor{past[0].Cursor, past[1].Cursor, past[2].Cursor, past[3].Cursor})
	for _, e := range past {
		require.False(t, e.Time.IsZero())
		require.NotEmpty(t, e.Writer)
	}
	require.NoError(t, f.Close())
}

// compatRow is a row of the checkpoint table.
type compatRow struct {
	Name    string `db:"name" json:"name"`
	Cursor  string `db:"cur" json:"cur"`
	Writer  string `db:"writer" json:"writer"`
	Seq     int64  `db:"seq" json:"seq"`
	SavedAt string `db:"saved_at" json:"saved_at"`
	History string `db:"history" json:"history"`
}

// storeSQLCheckpoint writes the CREATE TABLE statements and the row of a pipeline. The
// values are the same in all databases, so SQLite provides them.
func storeSQLCheckpoint(t *testing.T, dir string) {
	db := dbtest.SQLite(t).Open(t, dbtest.NCruces)
	for name, d := range map[string]dialect.Dialect{"postgres": postgres.Dialect{}, "mysql": mysql.Dialect{}, "sqlite": sqlite.Dialect{}} {
		s, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{Dialect: d})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".sql"), []byte(s.Schema()+"\n"), 0o600))
	}
	s := openCheckpoint(t, db, sqlcheckpoint.Options{History: 3})
	loadedCursor(t, s)
	for i := range 3 {
		require.NoError(t, s.Save(t.Context(), compatCursor(i), compatCursor(i+1)))
	}
	require.NoError(t, s.Rewind(t.Context(), compatCursor(2)))
	var r compatRow
	require.NoError(t, db.Get(&r, "SELECT * FROM devotion_checkpoint"))
	text, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "row.json"), append(text, '\n'), 0o600))
}

func readSQLCheckpoint(t *testing.T, dir string) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		file := "sqlite.sql"
		switch {
		case driver == dbtest.PGX, driver == dbtest.PQ:
			file = "postgres.sql"
		case strings.HasPrefix(string(driver), string(dbtest.MySQL)):
			file = "mysql.sql"
		}
		create, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		db.MustExec(string(create))
		text, err := os.ReadFile(filepath.Join(dir, "row.json"))
		require.NoError(t, err)
		var r compatRow
		require.NoError(t, json.Unmarshal(text, &r))
		_, err = db.NamedExecContext(t.Context(),
			"INSERT INTO devotion_checkpoint (name, cur, writer, seq, saved_at, history) VALUES (:name, :cur, :writer, :seq, :saved_at, :history)", r)
		require.NoError(t, err)

		s := openCheckpoint(t, db, sqlcheckpoint.Options{History: 4})
		require.Equal(t, compatCursor(2), loadedCursor(t, s))
		require.NoError(t, s.Save(t.Context(), compatCursor(2), compatCursor(9)))
		past, err := s.History(t.Context())
		require.NoError(t, err)
		var cursors []source.Cursor
		for _, e := range past {
			cursors = append(cursors, e.Cursor)
			require.False(t, e.Time.IsZero())
			require.NotEmpty(t, e.Writer)
		}
		require.Equal(t, []source.Cursor{compatCursor(9), compatCursor(2), compatCursor(3), compatCursor(2)}, cursors)
	})
}

// compatTables have keys of all kinds. storeCursors reads them up to their second row.
var compatTables = map[string]struct{ create, insert, where string }{
	"integers": {`k INTEGER PRIMARY KEY AUTOINCREMENT`, `(1), (2), (9223372036854775806), (9223372036854775807)`, ""},
	"floats":   {`k REAL PRIMARY KEY NOT NULL`, `(-1.5), (0.1), (1e300), (2e300)`, ""},
	"texts":    {`k TEXT PRIMARY KEY NOT NULL`, `('a'), ('b;%ü "c"'), ('c'), ('d')`, ""},
	"bytes":    {`k BLOB PRIMARY KEY NOT NULL`, `(x'00'), (x'00ff'), (x'01'), (x'02')`, ""},
	"chosen":   {`k INTEGER PRIMARY KEY AUTOINCREMENT`, `(1), (2), (3), (4)`, "k <> 5"},
}

// compatTable creates the table in a new database.
func compatTable(t *testing.T, name string) *sqlsource.Table {
	db := dbtest.SQLite(t).Open(t, dbtest.NCruces)
	c := compatTables[name]
	db.MustExec("CREATE TABLE " + name + " (" + c.create + ")")
	db.MustExec("INSERT INTO " + name + " VALUES " + c.insert)
	return &sqlsource.Table{DB: db, Name: name, Key: []string{"k"}, Where: c.where, Ceiling: ceiling.None{}, Logger: slog.New(slog.DiscardHandler)}
}

// storeCursors writes the cursor of each table after its second row, and cursors made by
// At.
func storeCursors(t *testing.T, dir string) {
	all := map[string]source.Cursor{}
	for name := range compatTables {
		b, err := compatTable(t, name).Fetch(t.Context(), "", 2)
		require.NoError(t, err, name)
		all[name] = b.To
	}
	at := compatTable(t, "integers")
	for name, key := range map[string]any{"at 2": 2, "at text 2": "2"} {
		c, err := at.At(key)
		require.NoError(t, err)
		all[name] = c
	}
	for name, key := range map[string]any{"at bytes": []byte{0, 255}, "at time": time.Date(2026, 1, 31, 12, 0, 0, 5000, time.UTC)} {
		c, err := compatTable(t, "bytes").At(key)
		require.NoError(t, err)
		all[name] = c
	}
	text, err := json.MarshalIndent(all, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cursors.json"), append(text, '\n'), 0o600))
}

func readCursors(t *testing.T, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "cursors.json"))
	require.NoError(t, err)
	var all map[string]source.Cursor
	require.NoError(t, json.Unmarshal(text, &all))
	for name, c := range all {
		table := name
		switch name {
		case "at 2", "at text 2":
			table = "integers"
		case "at bytes":
			table = "bytes"
		case "at time": // SQLite has no such type
			require.Contains(t, compatTable(t, "bytes").Describe(c), "2026-01-31T12:00:00.000005Z")
			continue
		}
		b, err := compatTable(t, table).Fetch(t.Context(), c, 10)
		require.NoError(t, err, name)
		whole, err := compatTable(t, table).Fetch(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, whole.Records, 4)
		require.Equal(t, rowTexts(whole.Records[2:]), rowTexts(b.Records), name)
	}
}

func rowTexts(rows []row.Row) (texts []string) {
	for _, r := range rows {
		texts = append(texts, r.String())
	}
	return slices.Clip(texts)
}
