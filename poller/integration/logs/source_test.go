package logs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logCall describes the source's calls that log one message.
type logCall struct {
	keys, levels map[string]bool
}

// The methods that log, and the index of their message argument.
var logMethods = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "Log": 2, "LogAttrs": 2,
}

var isLogger = regexp.MustCompile(`(?i)(^|\.)(log|logger|slog)(\(\))?$`)

// LOGS.md lists every line of the library and of dbtofile with all its keys, and no other
// lines.
func TestLogsAreDocumented(t *testing.T) {
	root := lab.RepositoryRoot(t)
	found := map[string]*logCall{}
	for _, dir := range []string{"source", "sink", "retry", "poller"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && (d.Name() == "integration" || d.Name() == "testdata") {
				return filepath.SkipDir // separate programs and tests
			}
			if err == nil {
				scanLogs(t, path, found)
			}
			return err
		}))
	}
	dbtofile, err := filepath.Glob(filepath.Join(root, "examples", "dbtofile", "*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, dbtofile)
	for _, path := range dbtofile {
		scanLogs(t, path, found)
	}

	lines, _ := logTable(t)
	documented := map[string]*logCall{}
	for _, l := range lines {
		c := entryOf(documented, l.message)
		c.levels[l.level] = true
		for _, k := range l.keys() {
			c.keys[k] = true
		}
	}
	for message, c := range found {
		d := documented[message]
		if !assert.NotNil(t, d, "LOGS.md has no line %q", message) {
			continue
		}
		delete(d.keys, "pipeline") // an attribute of the logger, not of the call
		assert.Equal(t, slices.Sorted(maps.Keys(c.keys)), slices.Sorted(maps.Keys(d.keys)), "keys of %q: in the source, and in LOGS.md", message)
		if len(c.levels) > 0 {
			assert.Equal(t, c.levels, d.levels, "levels of %q: in the source, and in LOGS.md", message)
		}
	}
	for message := range documented {
		assert.Contains(t, found, message, "LOGS.md has a line that nothing logs")
	}
}

func entryOf(all map[string]*logCall, message string) *logCall {
	if all[message] == nil {
		all[message] = &logCall{map[string]bool{}, map[string]bool{}}
	}
	return all[message]
}

// scanLogs adds the calls that log in a Go file, unless it is a test.
func scanLogs(t *testing.T, path string, found map[string]*logCall) {
	if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
		return
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !isLogger.MatchString(expression(method.X)) {
				return true
			}
			at, ok := logMethods[method.Sel.Name]
			if !ok {
				return true
			}
			message, ok := stringLiteral(call.Args[at])
			require.True(t, ok, "%s: write the message as a literal, so that this test can find it", files.Position(call.Pos()))
			c := entryOf(found, message)
			if level, _ := strings.CutSuffix(method.Sel.Name, "Context"); !strings.HasPrefix(level, "Log") {
				c.levels[strings.ToUpper(level)] = true
			}
			r := logKeys{t: t, files: files, f: f, keys: c.keys}
			if attrs := call.Args[at+1:]; call.Ellipsis.IsValid() {
				r.list(attrs[len(attrs)-1])
			} else {
				r.pairs(attrs)
			}
			return true
		})
	}
}

// expression returns the text of a name, a field or a method call.
func expression(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return expression(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		return expression(e.Fun) + "()"
	}
	return ""
}

func stringLiteral(e ast.Expr) (string, bool) {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	return "", false
}

// logKeys collects the keys from the attributes of a call.
type logKeys struct {
	t     *testing.T
	files *token.FileSet
	f     *ast.FuncDecl
	keys  map[string]bool
}

func (r logKeys) pairs(attrs []ast.Expr) {
	for i := 0; i < len(attrs); i += 2 {
		key, ok := stringLiteral(attrs[i])
		require.True(r.t, ok, "%s: write the key as a literal", r.files.Position(attrs[i].Pos()))
		r.keys[key] = true
	}
}

// list follows an expression such as append(attrs, "err", err) back to the literals of its
// keys.
func (r logKeys) list(e ast.Expr) {
	switch e := e.(type) {
	case *ast.CompositeLit:
		r.pairs(e.Elts)
		return
	case *ast.CallExpr:
		switch name := expression(e.Fun); {
		case name == "append":
			r.list(e.Args[0])
			r.pairs(e.Args[1:])
			return
		case strings.HasSuffix(name, ".WithUnlogged"): // method of loglimit.Limiter
			if r.keys["unlogged"] = true; e.Ellipsis.IsValid() {
				r.list(e.Args[0])
			} else {
				r.pairs(e.Args)
			}
			return
		}
	case *ast.Ident:
		assigned := false
		ast.Inspect(r.f, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || len(a.Lhs) != 1 || expression(a.Lhs[0]) != e.Name {
				return true
			}
			assigned = true
			if call, ok := a.Rhs[0].(*ast.CallExpr); ok && expression(call.Fun) == "append" && expression(call.Args[0]) == e.Name {
				r.pairs(call.Args[1:]) // attrs = append(attrs, ...)
			} else {
				r.list(a.Rhs[0])
			}
			return true
		})
		if assigned {
			return
		}
	}
	require.Fail(r.t, "keys not found", "%s: this test cannot follow the expression", r.files.Position(e.Pos()))
}
