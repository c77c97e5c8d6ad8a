// Package deploytest has helpers for the tests of the deployment. A test that needs
// a missing program is skipped and names the Debian package. In CI (CI=true) it
// fails, because nobody sees a skipped test there.
package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Heavy skips a test with -short that mostly waits for other programs.
func Heavy(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts servers and waits for them: skipped with -short")
	}
}

// Program returns the path of a program that a Debian package installs.
func Program(tb testing.TB, name, debianPackage string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("deploytest: no %s found: install the package %s", name, debianPackage)
	}
	tb.Skipf("deploytest: no %s found: install the package %s", name, debianPackage)
	return ""
}

// Dir returns the directory of the deployment's files, examples/dbtofile/deploy.
func Dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Read returns the text of one of the deployment's files.
func Read(tb testing.TB, path ...string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{Dir()}, path...)...))
	if err != nil {
		tb.Fatalf("deploytest: %v", err)
	}
	return string(text)
}
