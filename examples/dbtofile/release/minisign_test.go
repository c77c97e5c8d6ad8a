package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// tool runs the real program.
func tool(t *testing.T, input string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("minisign"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("install the package minisign")
		}
		t.Skip("install the package minisign")
	}
	cmd := exec.Command("minisign", args...)
	cmd.Stdin = strings.NewReader(input)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return string(text)
}

func TestMinisignChecksWhatWeSign(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	said := tool(t, "", "-Vm", w.path("public/"+index.Name), "-p", w.path("one.pub"))
	require.Contains(t, said, "Signature and comment signature verified")
	require.Contains(t, said, "Trusted comment: "+index.Format+" serial")
}

func TestMinisignSignsWithOurKeysAndWeCheckIt(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	file := w.path("public/" + index.Name)
	require.NoError(t, os.Remove(file+".minisig"))
	tool(t, "", "-Sm", file, "-s", w.path("one.key"))
	require.Len(t, w.index("one").Releases, 1)
}

func TestMinisignsKeysSign(t *testing.T) {
	w := newWorkshop(t)
	tool(t, "", "-GW", "-p", w.path("tool.pub"), "-s", w.path("tool.key"))
	w.does("-dir", w.path("public"), "-key", w.path("tool.key"))
	w.index("tool")
	tool(t, "", "-Vm", w.path("public/"+index.Name), "-p", w.path("tool.pub"))
}

// TestPasswords is slow by design: to try a password takes a second and a gigabyte.
func TestPasswords(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a gigabyte of memory: not with -short")
	}
	w := newWorkshop(t)
	code, _, errs := w.run("secret", "-keygen", w.path("locked"))
	require.Equal(t, 0, code, errs)
	args := []string{"-dir", w.path("public"), "-key", w.path("locked.key")}
	w.fails("it has a password", args...)
	w.write("password", "secret\n")
	w.does(append(args, "-password-file", w.path("password"))...)
	w.index("locked")
	require.NoError(t, os.Remove(w.path("public/"+index.Signature)))
	tool(t, "secret\n", "-Sm", w.path("public/"+index.Name), "-s", w.path("locked.key"))
	w.index("locked")
}
