//go:build linux

package apt_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/deploy/internal/deploytest"
)

// fakes stands in for the programs that dbtofile-update runs. The machine is the files in $S: the package in installed and
// want, the repository in candidate, the units in units, and the clock, which only sleep advances. hook is a part of a test.
const fakes = `#!/bin/bash
name=${0##*/} args=$*
read -r status version <"$S/installed"
now=2026-01-02T03:04:05.678Z page='{"version": "'"${version//\~/-}"'", "ready": true, "now": "'$now'", "pipelines": [{"state": "polling", "last_poll": "'$now'", "attempts": 0}]}'
once() { [ ! -e "$S/once.$1" ] && : >"$S/once.$1"; }
. "$S/hook"
case "$name $args" in
sleep*) echo $(($(cat "$S/clock") + $1)) >"$S/clock" ;;
"dpkg --set-selections") ;;
dpkg\ --configure* | dpkg\ --force*) echo "installed $version" >"$S/installed" ;;
dpkg\ *) exec /usr/bin/dpkg "$@" ;;
dpkg-query*)
	format=${3//'${db:Status-Status}'/$status}
	format=${format//'${Version}'/$version}
	printf %s "${format//'${db:Status-Want}'/$(cat "$S/want")}"
	;;
apt-cache*) echo "  Candidate: $(cat "$S/candidate")" ;;
*--download-only*) : >"$S/lib/archives/dbtofile_${args##*dbtofile=}_$(/usr/bin/dpkg --print-architecture).deb" ;;
*--reinstall*) version=${args##*/dbtofile_} && echo "installed ${version%_*}" >"$S/installed" ;;
curl*) printf '%s\n' "$args" >>"$S/curls" && echo "$page" ;;
systemctl\ list-units*)
	states=${args#*--state=}
	states=${states%% *}
	cd "$S/units" && for unit in *; do ! grep -qE "ActiveState=(${states//,/|})$" "$unit" || echo "$unit loaded"; done
	;;
systemctl\ show*) cat "$S/units/${args##* }" ;;
systemctl\ start*) for unit in "${@:3}"; do sed -i s/ActiveState=.*/ActiveState=active/ "$S/units/$unit"; done ;;
esac
`

// fakeSite is a machine that runs version 1.0.0, and has 1.1.0 in its repository.
type fakeSite struct {
	t   *testing.T
	dir string
}

func newFakeSite(t *testing.T) fakeSite {
	t.Parallel()
	for program, debianPackage := range map[string]string{"jq": "jq", "dpkg": "dpkg", "flock": "util-linux"} {
		deploytest.Program(t, program, debianPackage)
	}
	s := fakeSite{t, t.TempDir()}
	for _, dir := range []string{"bin", "units", "proc/1", "lib/archives", "etc/apt", "share", "prom"} {
		require.NoError(t, os.MkdirAll(filepath.Join(s.dir, dir), 0o755))
	}
	script := deploytest.Read(t, "apt", "dbtofile-update")
	for _, path := range [][2]string{
		{"PATH=/usr/local/sbin", "PATH=" + s.dir + "/bin"},
		{"/var/lib/dbtofile-update", s.dir + "/lib"},
		{"/etc/dbtofile/", s.dir + "/etc/"},
		{"/usr/share/dbtofile", s.dir + "/share"},
		{"/var/lib/prometheus/node-exporter", s.dir + "/prom"},
		{"/proc/uptime", s.dir + "/clock"},
		{"/proc/$MainPID", s.dir + "/proc/$MainPID"},
	} {
		require.Contains(t, script, path[0])
		script = strings.ReplaceAll(script, path[0], path[1])
	}
	s.write("dbtofile-update", script)
	for _, name := range []string{"dpkg", "dpkg-query", "apt-get", "apt-cache", "curl", "systemctl", "sleep"} {
		s.write("bin/"+name, fakes)
		require.NoError(t, os.Chmod(filepath.Join(s.dir, "bin", name), 0o755))
	}
	s.write("installed", "installed 1.0.0")
	s.write("want", "install")
	s.write("candidate", "1.1.0")
	s.write("clock", "1000")
	s.write("hook", "")
	s.write("share/apt.conf", "")
	s.write("etc/apt/dbtofile.sources", "")
	s.write("etc/update.env", "settle=2 gate=4")
	s.write("proc/1/environ", "HOME=/\x00DBTOFILE_LISTEN=:9464\x00")
	s.unit("dbtofile.service", "active")
	return s
}

func (s fakeSite) write(name, text string) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(text+"\n"), 0o644))
}

func (s fakeSite) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, name)) // "" if it is not there
	return strings.TrimSpace(string(text))
}

func (s fakeSite) unit(name, state string) {
	s.t.Helper()
	s.write("units/"+name, "MainPID=1\nNRestarts=0\nLoadState=loaded\nActiveState="+state)
}

// update runs dbtofile-update, and requires an exit status, texts that it prints, and the version that is installed then.
func (s fakeSite) update(status int, installed string, want ...string) {
	s.t.Helper()
	cmd := exec.Command("bash", filepath.Join(s.dir, "dbtofile-update"))
	cmd.Env = append(os.Environ(), "S="+s.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(s.t, err, &exit)
	}
	require.Equal(s.t, status, cmd.ProcessState.ExitCode(), &out)
	require.Equal(s.t, installed, s.read("installed"), &out)
	for _, text := range want {
		assert.Contains(s.t, out.String(), text)
	}
	for _, text := range []string{"unbound variable", "command not found", "ActiveState="} {
		assert.NotContains(s.t, out.String(), text)
	}
}
