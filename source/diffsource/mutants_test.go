package diffsource

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

// mutants are faults that lose or repeat changes. Each changes one place in the source.
var mutants = []mutant{
	{"the state is committed before the batch is saved", "source.go",
		"if s.pass == nil || s.pass.from != after {", "if s.pass == nil {"},
	{"a digest of only some columns", "pass.go",
		"p.text = r.AppendCells(append(p.text[:0], p.names...))", "p.text = append(append(p.text[:0], p.names...), r.Text(0)...)"},
	{"the merge stops at the end of the table", "pass.go",
		"case len(p.rows) == 0 && !more:", "case len(p.rows) == 0:"},
	{"the merge stops at the end of the state", "pass.go",
		"case p.inserts > 0 || !more:\n", "case !more && p.now.pass > 1:\n\t\treturn c, nil, true, nil\n\tcase p.inserts > 0 || !more:\n"},
	{"the state is not synced", "segment.go",
		"if err := w.file.Sync(); err != nil {", "if err := error(nil); err != nil {"},
	{"the name of the state is not synced", "segment.go",
		"if err := w.dir.Sync(); err != nil {", "if err := error(nil); err != nil {"},
	{"the state of the pass before is removed too early", "source.go",
		"s.store.clean(at.lineage, keep-1)", "s.store.clean(at.lineage, keep+1)"},
	{"a batch that was fetched ahead counts as saved", "source.go",
		"keep := min(at.pass, s.saved); keep > 1", "keep := at.pass + 1; keep > 1"},
	{"the entries that were compared are compared again", "source.go",
		"c.pass-1, c.base, c.taken)", "c.pass-1, c.base, 0)"},
	{"an order that has changed is not noticed", "keys.go",
		"return s != nil && (s.written || s.last > p.now.taken), nil", "return s != nil && false, nil"},
	{"batches that were not saved are forgotten", "source.go",
		"p.unsure, kinds, err = s.store.abandoned(ctx, c.lineage, c.pass, c.state)", "p.unsure, kinds, err = nil, nil, nil"},
	{"only the rest of the cursor's segment counts as not saved", "abandoned.go",
		"for _, span := range off {", "for _, span := range off[:0] {"},
	{"the cursor's own segment is not searched for batches that were not saved", "abandoned.go",
		"for i, span := range a.spans {\n\t\tspan.from, span.to", "for i, span := range a.spans[:0] {\n\t\tspan.from, span.to"},
	{"of several batches that were not saved the last one counts", "abandoned.go",
		"d.mixed = d.mixed || d.deleted != deleted || d.digest != of", "d.deleted, d.digest = deleted, of"},
	{"a row that follows the delete of another spelling is forgotten in a crash", "correction.go",
		"p.extra[n-1].ends = keys", "p.extra[0].ends = keys"},
	{"a row whose key equals one that is deleted does not follow", "correction.go",
		"p.extra = append(p.extra, rows...)", "_ = rows"},
	{"what a batch has deleted is not written", "segment.go",
		"if len(w.deleted) > 0 {\n\t\tif err", "if len(w.deleted) > 0 && false {\n\t\tif err"},
	{"rows that came and went while the process was down are not deleted", "pass.go",
		"c, err = p.correct(ctx)", "c, err = row.Change{}, nil"},
	{"the first batch is delivered before its pass is known", "source.go",
		"if at.pass == 0 { // the cursor", "if at.pass == 0 {\n\t\tat = cursor{lineage: s.tuning.random(), pass: 1, began: time.Now().UnixMilli()}\n\t}\n\tif at.pass == 0 { // the cursor"},
	{"a pass without a difference moves the cursor", "pass.go",
		"if done && p.whole && !p.differ {", "if false {"},
}

// TestMutantsDie shows that the model finds such faults: it compiles each mutant, which must fail
// TestModel.
func TestMutantsDie(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		const missing = "compiling the mutants takes the go command: install Go, and have it on the PATH"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	some := mutants
	if testing.Short() {
		some = mutants[:1]
	}
	for _, m := range some {
		t.Run(m.name, func(t *testing.T) {
			source, err := os.ReadFile(m.file)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(source), m.old), "the mutation no longer fits %s", m.file)
			temp := t.TempDir()
			mutated, overlay := filepath.Join(temp, m.file), filepath.Join(temp, "overlay.json")
			require.NoError(t, os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600))
			here, err := filepath.Abs(m.file)
			require.NoError(t, err)
			text, err := json.Marshal(map[string]any{"Replace": map[string]string{here: mutated}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(overlay, text, 0o600))
			out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-run", "^TestModel$", ".", "-seeds", "5000").CombinedOutput()
			require.Error(t, err, "the mutant survived:\n%s", out)
			require.Contains(t, string(out), "model: seed ", "it died of something else")
			_, after, _ := strings.Cut(string(out), "model: ")
			line, _, _ := strings.Cut(after, "\n")
			t.Log(line)
		})
	}
}
