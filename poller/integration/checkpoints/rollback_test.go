package checkpoints

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/orders"
	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// A bad release is rolled back and retried: the last version and this version run in turn
// over a growing table, and each is killed while it works.
func TestRollback(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the last version and kills it and this one many times: not with -short")
	}
	if lab.Race() {
		t.Skip("it only runs programs, which are not built with the race detector")
	}
	t.Parallel()
	versions := compatVersions(t)
	last := versions[len(versions)-1]
	old, now := dbtofileOf(t, last), orders.Build(t)
	seed := rand.Uint64()
	for i, o := range orders.Tables {
		t.Run(o.Name, func(t *testing.T) {
			t.Parallel()
			const each = 6000
			t.Logf("seed %d", seed)
			o, db := o.Filled(t, each)
			dir := t.TempDir()
			k := killer{t: t, random: rand.New(rand.NewPCG(seed, uint64(i))), dir: dir}
			args := []string{"-batch", "500", "-segment-bytes", "200000"}
			rows, forms := each, map[string]int{}
			for n := range 8 {
				binary := []string{old, now}[n%2]
				// Somewhere among the rows that were added before.
				at := int64(254 * each * (float64(n) + 0.2 + 0.6*k.random.Float64()))
				k.runUntilKilled(o.Service(t, binary, dir, append(args, "-interval", "10ms")...), lab.WaitLimit, at)
				history, err := filesink.History(dir)
				require.NoError(t, err)
				forms[cursorForm(string(history[0].Cursor))]++
				_, err = db.Exec(strings.ReplaceAll(o.Fill, "ROWS", strconv.Itoa(each)))
				require.NoError(t, err)
				rows += each
			}
			assert.Len(t, forms, 1, "both versions write cursors of the same format")
			for _, binary := range []string{old, now, old} {
				out, err := o.Service(t, binary, dir, append(args, "-once")...).CombinedOutput()
				require.NoError(t, err, string(out))
				o.Compare(t, db, dir, rows)
			}
		})
	}
}

// cursorForm returns a cursor with its numbers, checksums and anchors masked.
func cursorForm(cursor string) string {
	cursor = regexp.MustCompile(`(,[0-9]+:[\w-]*:i[0-9]+)+`).ReplaceAllString(cursor, ",anchors")
	cursor = regexp.MustCompile(`;[0-9a-f]{8}$`).ReplaceAllString(cursor, ";sum")
	return regexp.MustCompile(`[0-9]+`).ReplaceAllString(cursor, "0")
}

// dbtofileOf builds the example service from a commit.
func dbtofileOf(t *testing.T, commit string) string {
	root, dir := lab.RepositoryRoot(t), t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "archive", "--output="+archive, commit).CombinedOutput(); err != nil {
		missing := fmt.Sprintf("commit %s not found: install the package git, and fetch the whole history (git fetch --unshallow): %v: %s", commit, err, out)
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	source := filepath.Join(dir, "source")
	require.NoError(t, os.Mkdir(source, 0o700))
	out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", source).CombinedOutput()
	require.NoError(t, err, string(out))
	path := filepath.Join(dir, "dbtofile-"+commit+".exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./dbtofile")
	build.Dir = filepath.Join(source, "examples")
	out, err = build.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}
