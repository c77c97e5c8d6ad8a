//go:build linux

package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

var (
	all       = flag.Bool("all", false, "inject every fault, not only those whose turn it is")
	tablePath = flag.String("table", "", "inject every fault, and write the table of results to this file")
	kills     = flag.Int("kills", defaultKills, "how often the program is killed with SIGKILL in the whole form")
	cutStep   = flag.Int("cut.step", 1, "after how many bytes more a connection is reset in the whole form of TestCutAtEveryByte")
	soakFor   = flag.Duration("soak.for", 0, "how long the soak lasts; 0 is 30 s, or a minute in the whole form")
)

const defaultKills = 500

func TestMain(m *testing.M) {
	flag.Parse()
	if err := checkTable(); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(2)
	}
	enterNamespace()
	runMoreAtOnce()
	code := lab.Run(m)
	removeLasting()
	if err := results.finish(); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		code = 1
	}
	os.Exit(code)
}

// checkTable refuses a run that would end without its table, or with a part of it.
func checkTable() error {
	if *tablePath == "" {
		return nil
	}
	for name, usual := range map[string]string{"run": "", "skip": "", "short": "false", "failfast": "false", "count": "1"} {
		if flag.Lookup("test."+name).Value.String() != usual {
			return fmt.Errorf("-table writes the rows of all tests: leave out -%s", name)
		}
	}
	const needs = time.Hour
	if limit, err := time.ParseDuration(flag.Lookup("test.timeout").Value.String()); err != nil || limit > 0 && limit < needs {
		return fmt.Errorf("-table takes longer than the time-out of the test (%v): add -timeout 0", limit)
	}
	f, err := os.OpenFile(*tablePath, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("the file in -table is relative to poller/integration/faults, where the test runs: %w", err)
	}
	return f.Close()
}

// runMoreAtOnce runs more tests at a time than there are processors, because they wait most of
// the time. -parallel has priority.
func runMoreAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0))))
	}
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

// turnVariable says whose turn it is. CI sets it to the number of commits, or to all. Without
// it the turn is 0.
const turnVariable = "FAULTS_TURN"

func whole() bool { return *all || *tablePath != "" || os.Getenv(turnVariable) == "all" }

func turn() int {
	n, _ := strconv.Atoi(os.Getenv(turnVariable)) // 0 if it is not set
	return n
}

// inTurn returns the first number in the whole form, and the second one in a turn.
func inTurn(all, turn int) int {
	if whole() {
		return all
	}
	return turn
}

func soakTime() time.Duration {
	switch {
	case *soakFor > 0:
		return *soakFor
	case whole():
		return time.Minute
	}
	return 30 * time.Second
}
