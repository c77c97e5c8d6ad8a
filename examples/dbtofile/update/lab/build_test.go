package lab_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// built are the programs of the tests, made once, when the first asks for them.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	// They wait more than they work. A run that asks for another number has it.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("6")
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// first is the version of the real build. The others that the tests deploy are the same
// build with another number of the same length written over it.
const first = "7.41.100"

func version(n int) string { return fmt.Sprintf("7.41.%d", 100+n) }

// program returns the file of a program.
func program(t *testing.T, name string) string {
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "dbtofile-update-lab-"); built.err != nil {
			return
		}
		const here = "github.com/artifactofdevotion/devotion/examples/dbtofile"
		for _, args := range [][]string{
			{"dbtofile", "-ldflags=-s -w -X main.release=" + first, here},
			{"dbtofile-update", "-ldflags=-s -w", here + "/update"},
			{"dbtofile-update-killed", "-tags=killpoints", here + "/update"},
			{"server", "-ldflags=-s -w", here + "/update/lab/server"},
			{"standin", "-ldflags=-s -w", here + "/update/lab/standin"},
		} {
			cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", filepath.Join(built.dir, args[0])}, args[1:]...)...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				built.err = fmt.Errorf("%w: %s", err, text)
				return
			}
		}
	})
	require.NoError(t, built.err)
	return filepath.Join(built.dir, name)
}

// good returns a dbtofile of a version.
func good(t *testing.T, version string) []byte {
	text, err := os.ReadFile(program(t, "dbtofile"))
	require.NoError(t, err)
	require.Len(t, version, len(first))
	require.True(t, bytes.Contains(text, []byte(first)))
	return bytes.ReplaceAll(text, []byte(first), []byte(version))
}

// bad returns a stand-in with a fault.
func bad(t *testing.T, version, fault string) []byte {
	text, err := os.ReadFile(program(t, "standin"))
	require.NoError(t, err)
	return fmt.Appendf(text, "\n%s %s", version, fault)
}
