package house

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A program that imports package poller gains two lines in its go.mod. No version that it
// chose changes: neither of a driver or framework, nor of Go.
//
// The program requires the dependencies of the nested modules, in versions so old that any
// requirement by the root module would raise them. These versions are stubs in the
// program's directory; a raised version would not be replaced by its stub. Nothing is
// downloaded except the dependencies of the root module.
func TestImporterOfPollerGainsTwoLines(t *testing.T) {
	t.Parallel()
	if lab.Race() {
		t.Skip("it only runs go commands, which are not built with the race detector")
	}
	root := lab.RepositoryRoot(t)
	dir := t.TempDir()
	stubs := []string{ // modules with a package in their root
		"github.com/go-sql-driver/mysql", "github.com/google/uuid", "github.com/lib/pq",
		"github.com/mattn/go-sqlite3", "github.com/rs/zerolog", "golang.org/x/sys", "modernc.org/sqlite",
		"github.com/prometheus/client_golang", "google.golang.org/protobuf",
	}
	var mod, imports strings.Builder
	fmt.Fprintf(&mod, "module example.org/importer\n\ngo 1.25\n")
	for i, path := range stubs {
		fmt.Fprintf(&mod, "\nrequire %s v0.0.1\nreplace %[1]s v0.0.1 => ./stub%d\n", path, i)
		fmt.Fprintf(&imports, "import _ %q\n", path)
		write(t, filepath.Join(dir, fmt.Sprintf("stub%d", i), "go.mod"), "module "+path+"\n\ngo 1.25\n")
		write(t, filepath.Join(dir, fmt.Sprintf("stub%d", i), "stub.go"), "package stub\n")
	}
	write(t, filepath.Join(dir, "go.mod"), mod.String())
	write(t, filepath.Join(dir, "main.go"), "package main\n\n"+imports.String()+"\nfunc main() {}\n")
	run(t, dir, "mod", "tidy")
	before := readMod(t, dir)
	require.Len(t, before.Require, len(stubs), "the program is tidy before it imports package poller")

	write(t, filepath.Join(dir, "pipeline.go"), `package main

import "`+lab.Module+`/poller"

func init() { _ = (&poller.Poller[string]{Name: "test"}).Status() }
`)
	run(t, dir, "mod", "edit", "-replace="+lab.Module+"="+root)
	run(t, dir, "mod", "tidy")
	after := readMod(t, dir)

	var gained []string
	for _, r := range after.Require {
		if !slices.Contains(before.Require, r) {
			gained = append(gained, fmt.Sprintf("%s indirect=%t", r.Path, r.Indirect))
		}
	}
	assert.ElementsMatch(t, []string{lab.Module + " indirect=false", "github.com/sethvargo/go-retry indirect=true"}, gained)
	for _, r := range before.Require {
		assert.Contains(t, after.Require, r, "a requirement changed")
	}
	assert.Equal(t, before.Go, after.Go, "the Go version changed")
	assert.Empty(t, after.Toolchain)

	run(t, dir, "build", "-o", filepath.Join(dir, "importer.exe"), ".")
	for _, pkg := range strings.Fields(run(t, dir, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")) {
		ours := strings.HasPrefix(pkg, lab.Module+"/") || pkg == "github.com/sethvargo/go-retry"
		assert.True(t, ours || pkg == "example.org/importer" || slices.Contains(stubs, pkg), "links %s", pkg)
	}
}

type goMod struct {
	Go        string
	Toolchain string
	Require   []struct {
		Path, Version string
		Indirect      bool
	}
}

func readMod(t *testing.T, dir string) (m goMod) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(run(t, dir, "mod", "edit", "-json")), &m))
	return m
}

// run runs the go command in dir, without the workspace.
func run(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s\n%s%s", strings.Join(args, " "), out, &stderr)
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}
