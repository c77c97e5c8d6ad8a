//go:build linux

package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

var (
	all       = flag.Bool("all", false, "inject every fault, not only those whose turn it is")
	tablePath = flag.String("table", "", "inject every fault, and write the table of results to this file")
	kills     = flag.Int("kills", 500, "how often the program is killed with SIGKILL in the whole form")
	cutStep   = flag.Int("cut.step", 1, "after how many bytes more a connection is reset in the whole form of TestCutAtEveryByte")
	soakFor   = flag.Duration("soak.for", 0, "how long the soak lasts; 0 is 10 s, or a minute in the whole form")
)

func TestMain(m *testing.M) {
	flag.Parse()
	enterNamespace()
	code := lab.Run(m)
	removeLasting()
	if *tablePath != "" {
		if err := os.WriteFile(*tablePath, []byte(results.markdown()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// inNamespace is set in the environment of a test in a private mount namespace.
const inNamespace = "FAULTS_IN_NAMESPACE"

// enterNamespace starts the test again in a new mount namespace, in the same process, so that mounts
// vanish with the test, however it ends. Without the right to do so it does nothing, and the
// faults that mount skip.
func enterNamespace() {
	if os.Getenv(inNamespace) != "" || os.Geteuid() != 0 || exec.Command("/usr/bin/unshare", "--mount", "true").Run() != nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	args := append([]string{"unshare", "--mount", "--propagation", "private", self}, os.Args[1:]...)
	_ = syscall.Exec("/usr/bin/unshare", args, append(os.Environ(), inNamespace+"=yes")) // returns only if it fails
}

// needRoot skips a test that mounts or traces and may not.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		missing(t, "it takes root, unshare of the package util-linux and the right to mount")
	}
}

// missing skips a test that lacks something, or fails it where CI=true.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// turnVariable says whose turn it is in the short form. CI sets it to the number of commits, so
// that consecutive commits inject all faults, or to all.
const turnVariable = "FAULTS_TURN"

func whole() bool { return *all || *tablePath != "" || os.Getenv(turnVariable) == "all" }

func turn() int {
	n, _ := strconv.Atoi(os.Getenv(turnVariable)) // 0 if it is not set
	return n
}

func soakTime() time.Duration {
	switch {
	case *soakFor > 0:
		return *soakFor
	case whole():
		return time.Minute
	}
	return 10 * time.Second
}
