//go:build linux

package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// The program panics while it waits for a database, and while it copies. Go prints the stacks
// of all goroutines. The password is not in them.
func TestCanaryInPanic(t *testing.T) {
	t.Parallel()
	s := newSecrets(t, "panics", "a build of the program panics while it waits for a database, and while it copies; Go prints the stacks of all goroutines")
	added, err := filepath.Abs("testdata/panic.go.txt")
	require.NoError(t, err)
	path := buildOverlay(t, "dbtofile-panics", map[string]string{filepath.Join(lab.RepositoryRoot(t), "examples", "dbtofile", "panics.go"): added})
	panics := func(dsn, when string) {
		cmd := exec.CommandContext(t.Context(), path, "-table", "items", "-key", "id", "-out", filepath.Join(t.TempDir(), "out"), "-log-level", "debug")
		cmd.Env = append(os.Environ(), "DBTOFILE_DSN="+dsn, "GOTRACEBACK=all")
		text, code := untilItSays(cmd, when, syscall.SIGUSR1)
		s.see(text, code, "after %q", when)
		assert.Equal(t, 2, code, text)
		assert.Contains(t, text, "panic: faults: a panic on purpose")
		assert.Contains(t, text, "poller.(*Poller", "the stack of the pipeline")
	}
	panics("postgres://ada:"+escapedCanary+"@127.0.0.1:1/shop", "failing")
	panics("ada:"+canary+"@tcp(127.0.0.1:1)/shop", "failing")
	for _, e := range servers {
		database := e.shared(t).NewDatabase(t)
		db := database.Open(t, e.driver)
		db.MustExec(e.create)
		db.MustExec(`INSERT INTO items (note) VALUES ('one')`)
		if e.name == mariadb.name {
			db.MustExec(`CREATE USER panicking IDENTIFIED BY '` + canary + `'`)
			db.MustExec(`GRANT PROCESS ON *.* TO panicking`)
		} else {
			db.MustExec(`CREATE ROLE panicking LOGIN PASSWORD '` + canary + `'`)
		}
		db.MustExec(`GRANT SELECT ON items TO panicking`)
		panics(strings.TrimPrefix(e.dsn(database.WithUser("panicking", canary)), "mysql://"), "guarantee")
		db.MustExec(`DROP TABLE items`)
		db.MustExec(`DROP USER panicking`)
	}
}
