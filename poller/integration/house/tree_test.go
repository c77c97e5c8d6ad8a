package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	maxFile     = 400 // lines, tests included
	maxFunction = 60  // lines, tests excluded
)

// Files and functions that are longer than they may be. A function that is one
// table may stay here. All others must be cut: then their line goes.
var tooLong = []string{
	"poller/pollertest/explore_test.go",
	"poller/prometheus/metrics_test.go",
	"poller/sdnotify/sdnotify_test.go",
	"sink/sinktest/suite_test.go",
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	t.Parallel()
	var long []string
	for _, f := range goFiles(t) {
		if f.lines > maxFile {
			long = append(long, f.path)
		}
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			function, ok := d.(*ast.FuncDecl)
			if ok && f.line(function.End())-f.line(function.Pos()) >= maxFunction {
				long = append(long, f.path+" "+function.Name.Name)
			}
		}
	}
	compare(t, tooLong, long, fmt.Sprintf("is longer than %d lines (a file) or %d lines (a function)", maxFile, maxFunction))
}

// database is a name in code that belongs to one database.
var database = regexp.MustCompile(`(?i)postgres|mysql|mariadb|sqlite|pgx|\bpg_`)

// Where the code may name databases, besides tests.
var roomsOfDatabases = []string{
	"source/sqlsource/postgres/",
	"source/sqlsource/mysql/",
	"source/sqlsource/sqlite/",
	"source/sqlsource/builtin/", // the list of built-in databases
	"internal/dberr/",           // classifies the errors of drivers
	"poller/integration/",
	"examples/",
}

func TestDatabasesAreNamedInTheirRoomsOnly(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		inside := func(room string) bool { return strings.HasPrefix(f.path, room) }
		if f.test || slices.ContainsFunc(roomsOfDatabases, inside) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			text := ""
			switch n := n.(type) {
			case *ast.CommentGroup:
				return false
			case *ast.Ident:
				text = n.Name
			case *ast.BasicLit:
				text = n.Value
			}
			if database.MatchString(text) {
				assert.Fail(t, "a database is named outside of the rooms of databases", "%s:%d: %s", f.path, f.line(n.Pos()), text)
			}
			return true
		})
	}
}

// compare requires that what offends is what is known to: nothing new, and nothing
// listed that does not offend any more.
func compare(t *testing.T, known, found []string, offence string) {
	t.Helper()
	for _, f := range found {
		assert.Contains(t, known, f, "%s %s", f, offence)
	}
	for _, k := range known {
		assert.Contains(t, found, k, "remove %q from the list in this test: nothing there %s", k, offence)
	}
}

type goFile struct {
	path  string // from the root of the repository, with slashes
	test  bool
	lines int
	ast   *ast.File
	files *token.FileSet
}

func (f goFile) line(at token.Pos) int { return f.files.Position(at).Line }

// goFiles returns all files of Go in the repository.
func goFiles(t *testing.T) (all []goFile) {
	t.Helper()
	root := os.DirFS(repositoryRoot(t))
	require.NoError(t, fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); path != "." && (name == "testdata" || name[0] == '.' || name[0] == '_' || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go":
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		f := goFile{path: path, test: strings.HasSuffix(path, "_test.go"), lines: strings.Count(string(text), "\n"), files: token.NewFileSet()}
		if f.ast, err = parser.ParseFile(f.files, path, text, parser.SkipObjectResolution); err == nil {
			all = append(all, f)
		}
		return err
	}))
	require.Greater(t, len(all), 100, "files of Go")
	return all
}
