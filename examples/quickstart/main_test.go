package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The first program that a newcomer runs. It takes ten seconds, even with -short.
func TestWhatANewcomerSees(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "quickstart.exe")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(bin)
	cmd.Env = append(cmd.Environ(), "TMPDIR="+t.TempDir())
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)

	const clock = `\d\d:\d\d:\d\d `
	const begin = clock + `BEGIN EXCLUSIVE -- nobody can read now\n`
	const commit = clock + `COMMIT -- the database is back\n`
	require.Regexp(t, begin+`(.*\n)*`+commit, string(out))
	log := regexp.MustCompile(begin+"|"+commit).ReplaceAllString(string(out), "")

	// The wait is drawn at random from 0 on. On a slow disk a single order can take
	// long enough to be a second outage, and the shop can close during it.
	const failing = clock + `WARN failing, will retry pipeline=orders op=fetch err=.*BUSY.* attempts=1 wait=\S+\n`
	const recovered = clock + `INFO recovered pipeline=orders op=fetch after=\S+ attempts=\d+\n`
	const slowDisk = `(` + failing + recovered + `)*`
	require.Regexp(t, `^`+
		clock+`INFO started pipeline=orders cursor="?"?.*\n`+
		slowDisk+
		clock+`INFO guarantee table="query of orders" ceiling=single-writer guarantee="every row .*"\n`+
		failing+recovered+slowDisk+`(`+failing+`)?`+
		clock+`INFO stopped pipeline=orders cursor=.* records=\d+\n`+
		clock+`INFO started pipeline=orders cursor=.*\n`+
		clock+`INFO stopped pipeline=orders cursor=.* records=\d+\n`+
		`\nrows written     180\nrows delivered   180\nlost               0\ntwice              0\nsee .*/orders/orders-0000000001\.jsonl\n$`,
		log)
}
