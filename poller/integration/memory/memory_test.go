package memory

import (
	"bytes"
	"context"
	"fmt"
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
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// promised is the memory that a process takes at most, as DESIGN.md of sqlsource says.
func promised(driver dbtest.Driver) int {
	rows := 3
	if driver == dbtest.Modernc || driver == dbtest.NCruces {
		rows = 4
	}
	return 64<<20 + rows*sqlsource.DefaultMaxRowBytes
}

// TestMemory copies a table with large rows in a process that has 256 MB, where a control group can be
// made. Rows that are larger than MaxRowBytes are refused by their key, and the process never takes
// more memory than is promised.
func TestMemory(t *testing.T) {
	if lab.Race() {
		t.Skip("the race detector takes memory of its own")
	}
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ, dbtest.MySQL, dbtest.Modernc, dbtest.NCruces} {
		t.Run(string(driver), func(t *testing.T) {
			d := lab.DatabaseFor(t, driver)
			refused, rows := fillLarge(t, d, driver)
			dir := filepath.Join(t.TempDir(), "out")
			group, missing := newControlGroup(t)
			out, err := group.command("MEMORY_DRIVER="+string(driver), "MEMORY_DSN="+d.DSN(driver), "MEMORY_DIR="+dir).CombinedOutput()
			require.NoError(t, err, string(out))

			var got []string
			var peak int
			for line := range strings.Lines(string(out)) {
				if key, ok := strings.CutPrefix(line, "refused "); ok {
					got = append(got, strings.TrimSpace(key))
				}
				if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &peak); err == nil {
					peak *= 1024
				}
			}
			require.Equal(t, refused, got)
			require.Positive(t, peak)
			require.LessOrEqual(t, peak, promised(driver), "bytes at the peak")
			require.Equal(t, rows, countLines(t, dir))
			t.Logf("at most %d MB of %d", peak>>20, promised(driver)>>20)
			t.Run("with 256 MB", func(t *testing.T) {
				if missing != "" {
					t.Skip(missing)
				}
				group.requireUsed(t)
			})
		})
	}
}

func countLines(t *testing.T, dir string) (lines int) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	for _, name := range segments {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		lines += bytes.Count(data, []byte("\n"))
	}
	return lines
}

// fillLarge fills a table with small, medium and large rows, and rows that are too large. It
// returns the keys of the last, and the number of the others.
func fillLarge(t *testing.T, d dbtest.Database, driver dbtest.Driver) (refused []string, rows int) {
	text, blob, value, binary := "text", "blob", "replace(printf('%%.*c', %d, 'x'), 'x', 'ab\"c')", "zeroblob(%d)"
	control := "replace(printf('%%.*c', %d, 'x'), 'x', char(1))" // six bytes of JSON for each
	switch {
	case lab.IsMariaDB(driver):
		text, blob, value, binary = "longtext", "longblob", "repeat('ab\"c', %d)", "repeat('b', %d)"
		control = "repeat(char(1 using utf8mb4), %d)"
		d.Open(t, driver).MustExec(`set global max_allowed_packet = 1 << 30`)
	case lab.IsPostgres(driver):
		blob, value, binary = "bytea", "repeat('ab\"c', %d)", "decode(repeat('62', %d), 'hex')"
		control = "repeat(chr(1), %d)"
	default:
		driver = dbtest.Modernc // the other has no memory for a text of 64 MB
	}
	db := d.Open(t, driver)
	defer db.Close()
	db.MustExec(`create table t (id int not null primary key, a ` + text + `, b ` + blob + `)`)
	id := 0
	add := func(n, a, b int, fits bool) {
		for range n {
			id++
			db.MustExec(fmt.Sprintf("insert into t values (%d, "+value+", "+binary+")", id, a/4, b))
			if rows++; !fits {
				rows--
				refused = append(refused, fmt.Sprint("id ", id))
			}
		}
	}
	const mb = 1 << 20
	add(1, 64*mb, 0, false)
	add(10, 1000, 1000, true)
	add(2, 31*mb, 0, true)
	add(1, 64*mb, 64*mb, false)
	add(1, 0, 64*mb, false)
	add(2, 15*mb, 11*mb, true)
	add(2, 0, 23*mb, true) // 31 MB in base64
	add(1, 1000, 0, true)
	add(20, mb, 0, true)
	add(2, 0, 7*mb, true)
	add(20, mb, 0, true)
	add(1, 31*mb, 0, true) // after a batch that is still being written
	add(4, 15*mb+mb/2, 11*mb, true)
	add(1, 10, 10, true)
	value = strings.Replace(control, "%d", "4*%d", 1) // add divides by the length of the other value
	add(1, 31*mb, 0, true)
	add(16, mb/2, 0, true)
	add(8, mb-100, 0, true) // nearly large enough to be written in parts
	return refused, rows
}

// copyTable is the process that TestMemory measures. It copies the table t to files, and prints
// the keys that are refused and the peak of its resident memory.
func copyTable(ctx context.Context, driver dbtest.Driver, dsn, dir string) error {
	db, err := sqlx.Open(driver.SQLName(), dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: "t", Encoder: filesink.JSONLines[row.Row]()})
	if err != nil {
		return err
	}
	defer files.Close()
	logger := slog.New(slog.DiscardHandler)
	p := &poller.Poller[row.Row]{
		Name: "t", Sink: files, Checkpointer: files, Logger: logger,
		Source: &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: ceiling.None{}, Logger: logger},
		DeadLetter: sink.Func[poller.Rejected[row.Row]](func(_ context.Context, b source.Batch[poller.Rejected[row.Row]]) error {
			for _, r := range b.Records {
				fmt.Println("refused", r.Key)
			}
			return nil
		}),
	}
	if err := p.Drain(ctx); err != nil {
		return err
	}
	if err := files.Seal(ctx); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Print(line)
		}
	}
	return err
}
