package filesink

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type mutant struct{ name, file, old, new string }

// mutants are faults that only a crash shows. Each changes one place in the source:
// it leaves out a call, or makes it too early.
var mutants = []mutant{
	{"the directory is acted on before it is synced", "recover.go",
		"if err := s.dir.Sync(); err != nil {\n\t\treturn s.fail(\"sync the directory\", err)\n\t}\n\tnames, err",
		"names, err"},
	{"a failed sync is tried again", "commit.go",
		"if err := s.open.Sync(); err != nil {",
		"if err := s.open.Sync(); err != nil && s.open.Sync() != nil {"},
	{"segments are published before the checkpoint", "commit.go",
		"text, err := next.encode()",
		"for _, seg := range next.Sealed {\n\t\t_ = s.dir.Rename(seg.File+openSuffix, seg.File)\n\t}\n\ttext, err := next.encode()"},
	{"a cut that failed is not done again", "recover.go",
		"err = f.Truncate(committed)\n\tif err == nil {",
		"info, _ := f.Stat()\n\terr = f.Truncate(committed)\n\tif err == nil && info.Size() > committed {"},
	{"data is not synced", "commit.go",
		"if err := s.open.Sync(); err != nil {", "if err := error(nil); err != nil {"},
	{"the name of a new segment is not synced", "commit.go",
		"if created {\n\t\tif err := s.dir.Sync()", "if created {\n\t\tif err := error(nil)"},
	{"the checkpoint is not synced", "../durable/file.go",
		"if err == nil {\n\t\terr = f.Sync()\n\t}", ""},
	{"the name of the checkpoint is not synced", "../durable/file.go",
		"if err := dir.Sync(); err != nil {", "if err := error(nil); err != nil {"},
	{"segments are announced before their names are synced", "commit.go",
		"if len(unnamed) > 0 {", "if false {"},
	{"nothing is cut", "recover.go", "err = f.Truncate(committed)", "_ = committed"},
	{"uncommitted segments stay", "recover.go", "range leftover {\n\t\tif err := s.dir.Remove", "range leftover[:0] {\n\t\tif err := s.dir.Remove"},
	{"sealed segments are not published after a crash", "recover.go",
		"if err := s.publish(unnamed); err != nil {", "if err := error(nil); err != nil {"},
	{"nothing is recovered after an error", "commit.go", "s.broken = true", "s.broken = false"},
	{"a batch that is stored already is not recognised", "../durable/fence.go",
		"case mine && stored.Cursor == to:", "case false:"},
	{"a segment is forgotten before OnSeal has accepted it", "announce.go",
		"seg.number() <= a.done })", "seg.number() <= a.done || a.attempts > 0 })"},
	{"a segment takes records of other columns", "store.go",
		"s.cp.Offset > 0 && s.cp.Shape == shape", "s.cp.Offset > 0"},
}

// checkpointMutants must fail the crash model of package filecheckpoint.
var checkpointMutants = []mutant{
	{"a cursor is loaded that a power cut can undo", checkpointDir + "/file.go",
		"if err := dir.Sync(); err != nil {", "if err := error(nil); err != nil {"},
	{"a Save that failed at its last sync is not done again", checkpointDir + "/file.go",
		"if moved {", "if !moved {\n\t\t\treturn nil\n\t\t}\n\t\tif moved {"},
	{"Replace retries a failed sync", "../durable/file.go",
		"if err == nil {\n\t\terr = f.Sync()\n\t}",
		"if err == nil {\n\t\tif err = f.Sync(); err != nil {\n\t\t\terr = f.Sync()\n\t\t}\n\t}"},
	{"temporary files of killed writers stay", checkpointDir + "/file.go", "range names {\n\t\tif err := dir.Remove", "range names[:0] {\n\t\tif err := dir.Remove"},
}

const checkpointDir = "../../poller/filecheckpoint"

// TestMutantsDie shows that the crash models find such faults: it compiles each
// mutant, which must fail TestCrashModel.
func TestMutantsDie(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		const missing = "compiling the mutants takes the go command: install Go, and have it on the PATH"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	if raceDetector {
		t.Skip("the mutants are not built with the race detector")
	}
	some, others := mutants, checkpointMutants
	if testing.Short() {
		some, others = mutants[:1], nil // the subtlest
	}
	for _, m := range some {
		t.Run(m.name, func(t *testing.T) { requireDies(t, m, ".") })
	}
	for _, m := range others {
		t.Run(m.name, func(t *testing.T) { requireDies(t, m, checkpointDir) })
	}
}

// requireDies runs the crash model in dir with a mutant.
func requireDies(t *testing.T, m mutant, dir string) {
	t.Parallel()
	source, err := os.ReadFile(m.file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), m.old), "the mutation no longer fits %s", m.file)
	temp := t.TempDir()
	mutated, overlay := filepath.Join(temp, filepath.Base(m.file)), filepath.Join(temp, "overlay.json")
	require.NoError(t, os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600))
	here, err := filepath.Abs(m.file)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{here: mutated}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, text, 0o600))

	out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-run", "^TestCrashModel$", dir, "-seeds", "50000").CombinedOutput()
	require.Error(t, err, "the mutant survived:\n%s", out)
	require.Contains(t, string(out), "crash model: seed ", "it died of something else")
	t.Logf("%s", firstLine(out))
}

func firstLine(out []byte) string {
	_, after, _ := strings.Cut(string(out), "crash model: ")
	line, _, _ := strings.Cut(after, "\n")
	return line
}
