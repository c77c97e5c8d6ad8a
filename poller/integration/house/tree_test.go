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

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	maxFile     = 400 // lines, tests included
	maxFunction = 60  // lines, tests excluded
)

// Files and functions above the limit. A function that consists of one table may stay in
// this list. Others should be split, and then removed from it.
var tooLong []string

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
		ast.Inspect(f.ast, func(n ast.Node) bool {
			name := "function literal"
			switch n := n.(type) {
			case *ast.FuncDecl:
				name = n.Name.Name
			case *ast.FuncLit:
			default:
				return true
			}
			if f.line(n.End())-f.line(n.Pos()) >= maxFunction {
				long = append(long, f.path+" "+name)
			}
			return false // a function within it is shorter
		})
	}
	compareWithList(t, tooLong, long, fmt.Sprintf("is longer than %d lines (a file) or %d lines (a function)", maxFile, maxFunction))
}

// database matches names that belong to one database.
var database = regexp.MustCompile(`(?i)postgres|mysql|mariadb|sqlite|pgx|\bpg_`)

// Directories whose code may name databases. Tests may name them everywhere.
var roomsOfDatabases = []string{
	"source/sqlsource/postgres/",
	"source/sqlsource/mysql/",
	"source/sqlsource/sqlite/",
	"source/changelog/",         // writes triggers for each of them
	"source/sqlsource/builtin/", // lists the built-in databases
	"source/xminsource/",        // reads the row versions of one database
	"source/diffsource/",        // begins a transaction in each
	"source/pglog/",             // Postgres's log
	"source/snapshot/",          // begins a transaction in each, and finds keys
	"source/recommend/",         // lists the means of each database
	"sink/sqlsink/",             // writes into each
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

var depguardFiles = regexp.MustCompile(`"\*\*/([^"*]+)/(\*\*/)?\*\.go"`)

// A package without a depguard rule could import anything.
func TestEachPackageHasARuleOfDepguard(t *testing.T) {
	t.Parallel()
	config, err := os.ReadFile(filepath.Join(lab.RepositoryRoot(t), ".golangci.yml"))
	require.NoError(t, err)
	rules := depguardFiles.FindAllStringSubmatch(string(config), -1)
	require.Greater(t, len(rules), 10)
	for _, f := range goFiles(t) {
		dir, _ := filepath.Split(f.path)
		ruled := slices.ContainsFunc(rules, func(rule []string) bool {
			return dir == rule[1]+"/" || rule[2] != "" && strings.HasPrefix(dir, rule[1]+"/")
		})
		free := strings.HasPrefix(dir, "examples/") || strings.HasPrefix(dir, "poller/integration/")
		assert.True(t, f.test || free || ruled, "%s: .golangci.yml has no depguard rule for its package", f.path)
	}
}

// compareWithList requires that the offenders found are those in the list: no new ones, and
// none in the list that no longer offends.
func compareWithList(t *testing.T, known, found []string, problem string) {
	t.Helper()
	for _, f := range found {
		assert.Contains(t, known, f, "%s %s", f, problem)
	}
	for _, k := range known {
		assert.Contains(t, found, k, "remove %q from the list in this test: it no longer %s", k, problem)
	}
}

type goFile struct {
	path  string // relative to the root of the repository, with slashes
	test  bool
	lines int
	ast   *ast.File
	files *token.FileSet
}

func (f goFile) line(at token.Pos) int { return f.files.Position(at).Line }

// goFiles returns all Go files of the repository.
func goFiles(t *testing.T) (all []goFile) {
	t.Helper()
	root := os.DirFS(lab.RepositoryRoot(t))
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
