//go:build unix

package house

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/stretchr/testify/require"
)

const released = "v0.99.0"

// The tags that .ci/release creates work for an importer who uses a module proxy: every
// package builds, and so does the program that users install. Other modules come from the
// module cache.
func TestReleaseBuildsForImporters(t *testing.T) {
	if testing.Short() {
		t.Skip("builds every module again: not with -short")
	}
	if lab.Race() {
		t.Skip("runs go commands only, which are not built with the race detector")
	}
	t.Parallel()
	r := newRelease(t)
	for _, path := range r.modules {
		t.Run("."+strings.TrimPrefix(path, lab.Module), func(t *testing.T) {
			if path != lab.Module+"/examples" { // contains programs only
				r.importer(t, path)
				return
			}
			r.run(t, r.dir, "go", "install", path+"/dbtofile@"+released)
			require.FileExists(t, filepath.Join(r.dir, "bin", "dbtofile"))
		})
	}
}

// release is a clone of the repository with a tagged version.
type release struct {
	dir     string
	tree    string
	modules []string // paths of the repository's modules
	env     []string // environment of an importer's go command
}

func newRelease(t *testing.T) *release {
	dir := t.TempDir()
	r := &release{dir: dir, tree: filepath.Join(dir, "tree"), env: append(os.Environ(),
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.org")}
	r.copyTree(t)
	r.commit(t)
	r.refused(t, "CHANGELOG.md has no section")
	changelog := filepath.Join(r.tree, ".github", "CHANGELOG.md")
	text, err := os.ReadFile(changelog)
	require.NoError(t, err)
	write(t, changelog, string(text)+"\n## "+released[1:]+" - 2026-12-01\n")
	r.refused(t, "not committed")
	r.commit(t)
	r.run(t, r.tree, ".ci/release", released)
	r.refused(t, "has been tagged")
	for _, file := range strings.Fields(r.run(t, r.tree, "git", "ls-files", "go.mod", "*/go.mod")) {
		path := strings.TrimSuffix(lab.Module+"/"+filepath.Dir(file), "/.")
		r.modules = append(r.modules, path)
		mod := r.run(t, r.tree, "git", "show", strings.TrimPrefix(filepath.Dir(file)+"/", "./")+released+":"+file)
		require.NotContains(t, mod, "=>", "%s of the release replaces modules", file)
	}
	require.Greater(t, len(r.modules), 3)
	r.run(t, r.tree, "git", "checkout", "-q", released)

	// A module proxy with the files that the go command gets for the tags, as it would from
	// the server.
	proxy := filepath.Join(dir, "proxy")
	direct := *r
	direct.env = append(slices.Clone(r.env), "GOWORK=off", "GOFLAGS=-modcacherw", "GOMODCACHE="+proxy, "GOPROXY=direct", "GONOSUMDB="+lab.Module+","+lab.Module+"/*",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url."+r.tree+".insteadOf", "GIT_CONFIG_VALUE_0=https://"+lab.Module)
	for _, path := range r.modules {
		direct.run(t, dir, "go", "mod", "download", path+"@"+released)
	}

	env := strings.Fields(r.run(t, r.tree, "go", "env", "GOMODCACHE", "GOPROXY"))
	theirs := env[0]
	modules := filepath.Join(dir, "modules")
	ours := filepath.Dir(lab.Module)
	mirror(t, theirs, modules, ours, "cache/download/"+ours)
	// Without -trimpath the packages would contain this test's directories, and the build
	// cache could not provide them.
	r.env = append(r.env, "GOWORK=off", "GOFLAGS=-mod=mod -trimpath -modcacherw", "GOMODCACHE="+modules, "GOBIN="+filepath.Join(dir, "bin"), "GOSUMDB=off",
		"GOPROXY=file://"+filepath.Join(proxy, "cache", "download")+",file://"+filepath.Join(theirs, "cache", "download")+","+env[1])
	return r
}

// copyTree creates a repository from the current files, committed or not.
func (r *release) copyTree(t *testing.T) {
	root := lab.RepositoryRoot(t)
	list := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	files, err := list.Output()
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("needs the package git, and a clone of the repository:", err)
	}
	require.NoError(t, err)
	for _, file := range strings.Split(strings.TrimRight(string(files), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // removed, but not committed
		}
		require.NoError(t, err)
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		path := filepath.Join(r.tree, file)
		write(t, path, string(text))
		require.NoError(t, os.Chmod(path, info.Mode()))
	}
	r.run(t, r.tree, "git", "init", "-q")
}

func (r *release) commit(t *testing.T) {
	r.run(t, r.tree, "git", "add", "-A")
	r.run(t, r.tree, "git", "commit", "-q", "-m", "the tree that is tested")
}

func (r *release) refused(t *testing.T, why string) {
	cmd := exec.CommandContext(t.Context(), ".ci/release", released)
	cmd.Dir, cmd.Env = r.tree, r.env
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), why)
}

// importer builds a program outside of the repository that imports all packages of a
// module.
func (r *release) importer(t *testing.T, path string) {
	program := []string{"package main"}
	list := r.run(t, filepath.Join(r.tree, strings.TrimPrefix(path, lab.Module)), "go", "list", "-mod=readonly", "-f", `{{if .GoFiles}}{{.ImportPath}}{{end}}`, "./...")
	for _, p := range strings.Fields(list) {
		if !strings.Contains(p+"/", "/internal/") {
			program = append(program, fmt.Sprintf("import _ %q", p))
		}
	}
	require.Greater(t, len(program), 1, "no package to import in %s", path)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module example.org/importer\n\ngo 1.26.0\n\nrequire "+path+" "+released+"\n")
	write(t, filepath.Join(dir, "main.go"), strings.Join(append(program, "func main() {}\n"), "\n\n"))
	r.run(t, dir, "go", "build", "-o", filepath.Join(dir, "importer"), ".")
}

// run runs a command and returns its output.
func (r *release) run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, r.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s\n%s%s", name, strings.Join(args, " "), out, &stderr)
	return string(out)
}

// mirror fills the directory to with links to the entries of from, except the given paths.
func mirror(t *testing.T, from, to string, except ...string) {
	require.NoError(t, os.MkdirAll(to, 0o700))
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, e := range entries {
		var below []string
		for _, path := range except {
			if rest, ok := strings.CutPrefix(path+"/", e.Name()+"/"); ok {
				below = append(below, strings.TrimSuffix(rest, "/"))
			}
		}
		switch {
		case slices.Contains(below, ""):
		case below != nil:
			mirror(t, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), below...)
		default:
			require.NoError(t, os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())))
		}
	}
}
