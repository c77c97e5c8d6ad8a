package filesink_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
)

const (
	formerTemp = "checkpoint.ABCDEFGHIJKLMNOPQRSTUVWX27.tmp" // as releases before package durable named it
	first      = "orders-0000000001.jsonl"
	second     = "orders-0000000002.jsonl"
)

// files returns every file of dir except the lock, with its content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		text := []byte("a directory")
		if !e.IsDir() {
			text, err = os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// directory returns a directory with a sealed segment of records 1 to 3 and an open
// segment of records 4 to 6.
func directory(t *testing.T) string {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, filesink.Options[order]{Name: "orders"})
	require.NoError(t, f.Write(ctx, batch(0, 3)))
	require.NoError(t, f.Seal(ctx))
	require.NoError(t, f.Write(ctx, batch(3, 5)))
	require.NoError(t, f.Write(ctx, batch(5, 6)))
	require.NoError(t, f.Close())
	return dir
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	edit := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	for name, test := range map[string]struct {
		file string
		edit func(string) string // nil removes the file
		want string
	}{
		"no checkpoint": {"checkpoint", nil,
			"there are segments, such as " + first + ", but no checkpoint: restore the checkpoint, or move the segments away"},
		"empty checkpoint": {"checkpoint", func(string) string { return "" },
			"the checkpoint cannot be used: it is cut off after 0 bytes: restore it, or move all files away"},
		"half a checkpoint":   {"checkpoint", func(s string) string { return s[:len(s)/2] }, "it does not match its checksum"},
		"edited checkpoint":   {"checkpoint", edit(`"cursor":"6"`, `"cursor":"5"`), "it does not match its checksum"},
		"missing segment":     {second + ".open", nil, "the open segment " + second + ".open no longer exists: put it back; without it, 3 rows are lost"},
		"short segment":       {second + ".open", func(s string) string { return s[:len(s)-1] }, "has 26 bytes, but 27 were committed: restore the file"},
		"changed segment":     {second + ".open", func(s string) string { return edit("6", "7")(s) + "uncommitted" }, "the last 9 bytes of " + second + ".open have changed since they were written"},
		"sealed beyond":       {second, func(string) string { return "x" }, second + " is sealed, but the checkpoint is still at segment 2: it is older than the segments"},
		"sealed and open":     {second, func(string) string { return "x" }, "or move away the segments from 3 on, and " + second},
		"sealed far beyond":   {"orders-0000000009.csv", func(string) string { return "x" }, "orders-0000000009.csv is sealed"},
		"open again":          {first + ".open", func(string) string { return "x" }, first + ".open is open, but the checkpoint is at segment 2 already"},
		"checkpoint is a dir": {"checkpoint", nil, "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := directory(t)
			for _, leftover := range []string{"orders-0000000003.jsonl.open", ".checkpoint.0.tmp", formerTemp} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, leftover), []byte("never committed"), 0o600))
			}
			path := filepath.Join(dir, test.file)
			before, _ := os.ReadFile(path) // some are new
			require.NoError(t, os.RemoveAll(path))
			if test.want == "is a directory" {
				require.NoError(t, os.Mkdir(path, 0o700))
			} else if test.edit != nil {
				require.NoError(t, os.WriteFile(path, []byte(test.edit(string(before))), 0o600))
			}
			requireRefused(t, dir, test.want)
			require.NoError(t, os.RemoveAll(path))
			if before != nil { // the advice helps
				require.NoError(t, os.WriteFile(path, before, 0o600))
			}
			f := open(t, dir, filesink.Options[order]{})
			require.NoError(t, f.Write(context.Background(), batch(6, 7)))
			require.Equal(t, lines(0, 7), content(t, dir))
		})
	}
}

// requireRefused opens a directory twice, which fails and changes no file.
func requireRefused(t *testing.T, dir, want string) {
	t.Helper()
	before := files(t, dir)
	for range 2 {
		_, err := filesink.Open(dir, filesink.Options[order]{})
		require.ErrorContains(t, err, "filesink: "+dir+": ")
		require.ErrorContains(t, err, want)
		require.Equal(t, before, files(t, dir))
	}
}

// Whoever restored an old checkpoint and follows the advice gets every row once.
func TestOldCheckpointAdvice(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	var old []string
	f := open(t, dir, filesink.Options[order]{Name: "orders", SegmentRows: 5})
	for i := range 20 {
		old = append(old, files(t, dir)["checkpoint"])
		if i%7 == 3 {
			require.NoError(t, f.Seal(ctx))
			old = append(old, files(t, dir)["checkpoint"])
		}
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
	}
	require.NoError(t, f.Close())
	state := files(t, dir)
	advised, renamed := 0, 0
	for _, checkpoint := range old {
		state["checkpoint"] = checkpoint
		dir := t.TempDir()
		for name, text := range state {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		f, err := filesink.Open(dir, filesink.Options[order]{})
		if err != nil {
			require.ErrorContains(t, err, "stop the pipeline, then restore the newest checkpoint, or move away the segments from")
			advised++
			renamed += follow(t, dir, err.Error())
			f = open(t, dir, filesink.Options[order]{})
		}
		c, err := f.Load(ctx)
		require.NoError(t, err)
		at, _ := strconv.Atoi(string(c)) // "" is 0
		require.NoError(t, f.Write(ctx, batch(at, 20)))
		require.Equal(t, lines(0, 20), content(t, dir))
		require.NoError(t, f.Close())
	}
	require.Greater(t, renamed, 5)
	require.Greater(t, advised, renamed, "some have no open segment")
}

var advice = regexp.MustCompile(`move away the segments from (\d+) on(?:, and rename (\S+) to (\S+))?$`)

// follow follows the advice and returns how many segments it renamed.
func follow(t *testing.T, dir, message string) (renamed int) {
	t.Helper()
	m := advice.FindStringSubmatch(message)
	require.NotNil(t, m, message)
	from, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	for _, name := range segments(t, dir) {
		if name >= fmt.Sprintf("orders-%010d", from) {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
	}
	if m[2] == "" {
		return 0
	}
	require.NoError(t, os.Rename(filepath.Join(dir, m[2]), filepath.Join(dir, m[3])))
	return 1
}

// A leftover that is a directory is refused before another leftover is removed.
func TestOpenRefusesALeftoverThatIsNotAFile(t *testing.T) {
	t.Parallel()
	for _, name := range []string{".checkpoint.1.tmp", "orders-0000000003.jsonl.open"} {
		dir := directory(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".checkpoint.0.tmp"), nil, 0o600))
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		requireRefused(t, dir, name+" has the name of a file of the sink and is not a regular file: move it away")
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		open(t, dir, filesink.Options[order]{})
		require.NotContains(t, files(t, dir), ".checkpoint.0.tmp")
	}
}

// A sealed segment that is not published yet is checked before the open segment
// is cut.
func TestOpenRefusesAShortSealedSegment(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, filesink.Options[order]{Name: "orders"})
	require.NoError(t, f.Write(ctx, batch(0, 3)))
	require.NoError(t, f.Close())
	f = open(t, dir, filesink.Options[order]{Encoder: named{".txt"}}) // the next Write seals and begins a segment
	require.NoError(t, f.Write(ctx, batch(3, 5)))
	state := files(t, dir)
	require.NoError(t, f.Close())

	for name, text := range map[string]string{
		"checkpoint":                 state["checkpoint"],
		first + ".open":              state[first][1:],
		"orders-0000000002.txt.open": state["orders-0000000002.txt.open"] + "uncommitted",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	require.NoError(t, os.Remove(filepath.Join(dir, first)))
	requireRefused(t, dir, first+".open has 26 bytes, but 27 were committed: restore the file")
	require.NoError(t, os.WriteFile(filepath.Join(dir, first+".open"), []byte(state[first]), 0o600))
	open(t, dir, filesink.Options[order]{})
	require.Equal(t, state[first], files(t, dir)[first])
	require.Equal(t, state["orders-0000000002.txt.open"], files(t, dir)["orders-0000000002.txt.open"])
}

func TestOpenRefusesImpossibleSizes(t *testing.T) {
	t.Parallel()
	const begin, open, sealed = `{"version":1,"name":"n","segment":2,`, `"file":"n-0000000002.jsonl",`, `"file":"n-0000000001.jsonl",`
	for _, rest := range []string{
		`"offset":-1}`, open + `"offset":3,"tail":-1}`, open + `"offset":3,"tail":4}`, open + `"offset":3,"rows":-1}`,
		`"sealed":[{` + sealed + `"bytes":-1}]}`, `"sealed":[{` + sealed + `"bytes":1,"tail":2}]}`, `"sealed":[{` + sealed + `"tail":-1}]}`,
	} {
		require.EqualError(t, filesink.DecodeBody(begin+rest), "it has sizes that no segment can have", rest)
	}
	for rest, want := range map[string]string{
		open + `"offset":3,"tail":3,"sealed":[{` + sealed + `"bytes":1,"tail":1}]}`: "",
		`"offset":3}`:          `its open segment cannot be ""`,
		sealed + `"offset":3}`: `its open segment cannot be "n-0000000001.jsonl"`,
		`"file":"../n-0000000002.jsonl","offset":3}`: `its open segment cannot be "../n-0000000002.jsonl"`,
		`"sealed":[{` + open + `"bytes":1}]}`:        `its sealed segment cannot be "n-0000000002.jsonl"`,
		`"sealed":[{"file":"checkpoint"}]}`:          `its sealed segment cannot be "checkpoint"`,
		`"cursor":"\u0000"}`:                         "not printable",
		`"history":[{"epoch":1}]}`:                   "its history is not one of its cursor",
		`"epoch":9223372036854775807}`:               "it has no valid name, segment or epoch",
		`"segment":0}`:                               "it has no valid name, segment or epoch",
		`"segment":10000000000}`:                     "it has no valid name, segment or epoch",
		`"name":"../n"}`:                             "it has no valid name, segment or epoch",
		`"offset":9223372036854775808}`:              "cannot unmarshal",
	} {
		if err := filesink.DecodeBody(begin + rest); want != "" {
			require.ErrorContains(t, err, want, rest)
		} else {
			require.NoError(t, err, rest)
		}
	}
}

func TestOpenRefusesAnotherName(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	_, err := filesink.Open(dir, filesink.Options[order]{Name: "payments"})
	require.ErrorContains(t, err, `the directory belongs to "orders", not to "payments"`)
}

func TestOpenRefusesANewerVersion(t *testing.T) {
	t.Parallel()
	for _, newer := range []string{`{"version":2}`, `{"version":2,"offset":"of another type","shard":7}`} {
		require.ErrorContains(t, filesink.DecodeBody(newer), "it has format version 2, and this program reads version 1 only (run the release that wrote it, or a later one)")
	}
	require.NoError(t, filesink.DecodeBody(`{"version":1,"name":"n","segment":1}`))
}

func TestOpenRefusesOptions(t *testing.T) {
	t.Parallel()
	_, err := filesink.Open("", filesink.Options[order]{})
	require.ErrorContains(t, err, "filesink: the directory is empty")
	_, err = filesink.History("")
	require.ErrorContains(t, err, "filesink: the directory is empty")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = filesink.Open(file, filesink.Options[order]{})
	require.ErrorContains(t, err, file+" is not a directory")
	for want, o := range map[string]filesink.Options[order]{
		`Name "../up" is not a valid file name`:   {Name: "../up"},
		`Name ".hidden" is not a valid file name`: {Name: ".hidden"},
		"SegmentRows is negative":                 {SegmentRows: -1},
		"FileMode":                                {FileMode: 0o200},
		"DirMode":                                 {DirMode: fs.ModeDir | 0o700},
		`Extension ".open" is not valid`:          {Encoder: named{".open"}},
		`Extension "jsonl" is not valid`:          {Encoder: named{"jsonl"}},
		`Extension "./x" is not valid`:            {Encoder: named{"./x"}},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		_, err := filesink.Open(dir, o)
		require.ErrorContains(t, err, "filesink: ")
		require.ErrorContains(t, err, want)
		require.NoDirExists(t, dir)
	}
}

type named struct{ extension string }

func (n named) Extension() string                         { return n.extension }
func (named) Header(dst []byte, _ *order) ([]byte, error) { return dst, nil }
func (named) End(dst []byte, _ int, _ *io.SectionReader) ([]byte, error) {
	return dst, nil
}
func (named) Append(dst []byte, record *order) ([]byte, error) { return append(dst, '.'), nil }

func TestOpenCleansUp(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	want := files(t, dir)
	uncommitted := func(name, text string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	uncommitted(second+".open", `{"id":7}`+"\n"+`{"id`)
	uncommitted("orders-0000000003.jsonl.open", `{"id":8}`)
	uncommitted("orders-0000000002.csv.open", `id`)
	uncommitted(".checkpoint.0.tmp", `{`)
	uncommitted(formerTemp, `{`)
	foreign := []string{"mine.txt", "other-0000000009.jsonl", "checkpoint.mine.tmp", "my" + formerTemp, formerTemp + ".txt"}
	for _, name := range foreign {
		uncommitted(name, "not ours")
		want[name] = "not ours"
	}
	f := open(t, dir, filesink.Options[order]{Name: "orders"})
	require.Equal(t, want, files(t, dir))
	require.NoError(t, os.Remove(filepath.Join(dir, first)), "consumers may take what is sealed")
	require.NoError(t, f.Close())
	open(t, dir, filesink.Options[order]{Name: "orders"})
	require.ElementsMatch(t, append(foreign, "checkpoint", second+".open"), slices.Collect(maps.Keys(files(t, dir))))
}

func TestCheckpointIsJSON(t *testing.T) {
	t.Parallel()
	var c struct {
		Checkpoint struct {
			Cursor  string
			History []struct{ Cursor string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(files(t, directory(t))["checkpoint"]), &c))
	require.Equal(t, "6", c.Checkpoint.Cursor)
	require.Len(t, c.Checkpoint.History, 4)
}

func TestModes(t *testing.T) {
	t.Parallel()
	if os.PathSeparator == '\\' {
		t.Skip("Windows has no such permissions")
	}
	for _, o := range []filesink.Options[order]{{}, {FileMode: 0o640, DirMode: 0o750}} {
		dir := filepath.Join(t.TempDir(), "new")
		f := open(t, dir, o)
		require.NoError(t, f.Write(context.Background(), batch(0, 1)))
		wantFile, wantDir := fs.FileMode(0o600), fs.FileMode(0o700)
		if o.FileMode != 0 {
			wantFile, wantDir = o.FileMode, o.DirMode
		}
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, wantDir, info.Mode().Perm())
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 3)
		for _, e := range entries {
			info, err := e.Info()
			require.NoError(t, err)
			require.Equal(t, wantFile, info.Mode().Perm(), e.Name())
		}
	}
}
