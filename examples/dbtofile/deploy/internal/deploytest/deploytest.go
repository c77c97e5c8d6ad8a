// Package deploytest has what the tests of the deployment share: the programs
// they start, free ports, and the files that are deployed.
//
// The programs are those of Debian. Where one is missing the test is skipped and
// names the package to install; if the environment has CI=true it fails, because
// a skipped test in CI is a hole that nobody sees.
package deploytest

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Heavy skips a test that only watches other programs: with -short, since it
// takes long, and under the race detector, which does not see into them.
func Heavy(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts servers and waits for them; skipped with -short")
	}
	if race {
		tb.Skip("the work is done by other programs, which the race detector does not see")
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

// FreeAddrs returns as many addresses of the loopback interface where nobody
// listens just now. Their ports lie below those that systems give to outgoing connections.
func FreeAddrs(n int) (addrs []string) {
	for len(addrs) < n {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			defer l.Close() // not before all are chosen, or one might come twice
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
