//go:build linux

package apt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const newInstalled, oldInstalled = "installed 1.1.0", "installed 1.0.0"

func TestTheStatusPageDecides(t *testing.T) {
	const heldPage = `page=${page/polling/held} page=${page/\"last_poll\": \"$now/\"last_poll\": \"2026-01-02T02:00:00Z}`
	for what, c := range map[string]struct {
		hook   string // runs when the new version is asked
		status int
	}{
		"healthy":                          {``, 0},
		"an empty page":                    {`page=`, 4},
		"two documents":                    {`page=$page$page`, 4},
		"no document":                      {`page='<html>'`, 4},
		"an age that is not whole":         {`page=${page/polling/idle} page=${page/\"attempts/\"due\": 1e99, \"attempts}`, 4},
		"the version before":               {`page=${page/1.1.0/1.0.0}`, 4},
		"not ready":                        {`page=${page/true/false}`, 4},
		"it tries again":                   {`page=${page/: 0/: 1}`, 4},
		"it has not polled":                {`page=${page/last_poll/last}`, 4},
		"it polls no more":                 {`page=${page/\"last_poll\": \"$now/\"last_poll\": \"2026-01-02T02:00:00Z}`, 4},
		"held without a time":              {heldPage, 4},
		"held, and due later":              {heldPage + ` page=${page/\"attempts/\"due\": \"2026-01-02T04:00:00Z\", \"attempts}`, 0},
		"held, and due long ago":           {heldPage + ` page=${page/\"attempts/\"due\": \"2026-01-02T03:00:00Z\", \"attempts}`, 4},
		"the unit has failed":              {`sed -i s/ActiveState=.*/ActiveState=failed/ "$S/units/dbtofile.service"`, 4},
		"the unit has restarted":           {`sed -i s/NRestarts=0/NRestarts=1/ "$S/units/dbtofile.service"`, 4},
		"systemd does not answer once":     {`! once show || exit 1`, 0},
		"systemd answers nothing for once": {`! once show || exit 0`, 0},
	} {
		t.Run(what, func(t *testing.T) {
			s := newFakeSite(t)
			match := "curl*)"
			if strings.HasPrefix(what, "systemd") {
				match = "systemctl\\ show*)"
			}
			s.write("hook", `case "$name $args" in "systemctl start"* | *--allow-downgrades*/dbtofile_1.0.0*) sed -i 's/NRestarts=1/NRestarts=0/; s/=failed/=active/' "$S/units/"* ;; esac
				case $version/$name\ $args in 1.1.0/`+match+" "+c.hook+" ;; esac")
			installed := newInstalled
			if c.status == 4 {
				installed = oldInstalled
			}
			s.update(c.status, installed)
			assert.Equal(t, map[bool]string{true: "1.1.0"}[c.status == 4], s.read("lib/held"))
		})
	}
}

func TestAPreReleaseReportsItsVersion(t *testing.T) {
	s := newFakeSite(t)
	s.write("candidate", "1.1.0~rc~1")
	s.update(0, "installed 1.1.0~rc~1")
	s.write("candidate", "1.1.0~rc~2")
	s.write("hook", `page=${page//-rc/\~rc}`)
	s.update(0, "installed 1.1.0~rc~2")
}

// The process can write anything into its environment, and root's curl must not take it for an option or a file.
func TestTheAddressIsOne(t *testing.T) {
	for address, want := range map[string]string{
		":9464":            "127.0.0.1:9464",
		"9464":             "127.0.0.1:9464",
		"[::1]:9464":       "[::1]:9464",
		"example.org:9464": "example.org:9464",
		"-K/tmp/evil:":     "", "-K:1": "", "file:": "", "file:/etc/shadow#:1": "", "a b:1": "", "a\nb:1": "", "a{b,c}:1": "", "u:p@h:1": "",
	} {
		t.Run("", func(t *testing.T) {
			t.Logf("%q", address)
			s := newFakeSite(t)
			s.write("proc/1/environ", "DBTOFILE_LISTEN="+address+"\x00")
			if want == "" {
				s.update(3, oldInstalled, "dbtofile.service")
				assert.Empty(t, s.read("curls"))
				return
			}
			s.update(0, newInstalled)
			assert.Contains(t, s.read("curls"), "--noproxy * --url "+want+"/status\n")
		})
	}
}

// The directory belongs to another user.
func TestMetricsFollowNoLink(t *testing.T) {
	s := newFakeSite(t)
	s.write("target", "as it was")
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, "directory"), 0o755))
	for _, target := range []string{"target", "directory"} {
		for _, name := range []string{"dbtofile-update.prom", "dbtofile-update.prom.new"} {
			os.Remove(filepath.Join(s.dir, "prom", name))
			require.NoError(t, os.Symlink(filepath.Join(s.dir, target), filepath.Join(s.dir, "prom", name)))
		}
		s.update(0, newInstalled)
		assert.Equal(t, "as it was", s.read("target"))
		assert.Contains(t, s.read("prom/dbtofile-update.prom"), "dbtofile_update_deploys_total 1")
		entries, err := os.ReadDir(filepath.Join(s.dir, "directory"))
		require.NoError(t, err)
		assert.Empty(t, entries)
	}
	// Metrics that cannot be written do not change how the run ends.
	require.NoError(t, os.Remove(filepath.Join(s.dir, "prom/dbtofile-update.prom")))
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "prom/dbtofile-update.prom/full"), 0o755))
	s.update(0, newInstalled, "up to date")
}

func TestSettingsAreChecked(t *testing.T) {
	for _, settings := range []string{"settle=30s", "gate=", "gate=3m", "settle=08", "settle=-1"} {
		t.Run(settings, func(t *testing.T) {
			s := newFakeSite(t)
			s.write("etc/update.env", settings)
			s.update(1, oldInstalled, "must be numbers of seconds")
		})
	}
}

// An error of bash in the middle of an upgrade ends the run, and the next one proves the version.
func TestAnErrorOfBashEndsTheRun(t *testing.T) {
	s := newFakeSite(t)
	s.write("hook", `case $args in *--allow-downgrades*/dbtofile_1.1.0*) echo 30s >"$S/clock" ;; esac`)
	s.update(1, newInstalled, "an error of bash")
	s.update(1, newInstalled, "finishing it", "an error of bash")
	s.write("clock", "2000")
	s.write("hook", `[ "$name $version" != "curl 1.1.0" ] || page=`)
	s.update(4, oldInstalled, "finishing it")
}

// What somebody does with the package in the middle of an upgrade stays.
func TestAnotherHandWins(t *testing.T) {
	for installed, want := range map[string]string{"installed 1.2.0": "install", "installed 0.9.0": "hold", "config-files 1.1.0": "deinstall"} {
		t.Run(installed, func(t *testing.T) {
			s := newFakeSite(t)
			s.write("hook", `[ "$name $version" != "curl 1.1.0" ] || { echo `+want+` >"$S/want"; echo `+installed+` >"$S/installed"; page=; }`)
			s.update(3, installed, "somebody else has changed the package: "+installed)
			assert.Contains(t, s.read("lib/state"), `upgrading=""`)
			assert.Empty(t, s.read("lib/held"))
		})
	}
}

// The second copy is healthy. The first one does not run any more.
func TestAUnitThatNoLongerRuns(t *testing.T) {
	const escaped = `dbtofile@a\x2db.service`
	stop := `sed -i s/ActiveState=.*/ActiveState=inactive/ "$S/units/dbtofile.service"`
	t.Run("since the new version", func(t *testing.T) {
		s := newFakeSite(t)
		s.unit(escaped, "active")
		s.write("hook", `case $args in *--allow-downgrades*/dbtofile_1.1.0*) `+stop+` ;; esac`)
		s.update(4, oldInstalled, "dbtofile.service no longer runs")
		assert.Contains(t, s.read("units/dbtofile.service"), "ActiveState=active")
	})
	t.Run("stopped by a user when it was ready", func(t *testing.T) {
		s := newFakeSite(t)
		s.unit(escaped, "active")
		s.write("hook", `[ $name != sleep ] || ! once stop || `+stop)
		s.update(0, newInstalled)
		assert.Contains(t, s.read("units/dbtofile.service"), "ActiveState=inactive")
	})
	t.Run("stopped by a user, and the version is bad", func(t *testing.T) {
		s := newFakeSite(t)
		s.unit(escaped, "active")
		s.write("hook", `case $name in sleep) ! once stop || `+stop+` ;; curl) [ $version = 1.0.0 ] || [ ! -e "$S/once.stop" ] || page= ;; esac`)
		s.update(4, oldInstalled)
		assert.Contains(t, s.read("units/dbtofile.service"), "ActiveState=inactive")
	})
	t.Run("stopped and masked by a user", func(t *testing.T) {
		s := newFakeSite(t)
		s.unit(escaped, "active")
		s.write("hook", `case $args in *--allow-downgrades*/dbtofile_1.1.0*) `+stop+`; sed -i s/=loaded/=masked/ "$S/units/dbtofile.service" ;; esac`)
		s.update(0, newInstalled)
	})
	t.Run("it was stopped before", func(t *testing.T) {
		s := newFakeSite(t)
		s.unit(escaped, "active")
		s.unit("dbtofile.service", "inactive")
		s.update(0, newInstalled)
		assert.Contains(t, s.read("units/dbtofile.service"), "ActiveState=inactive")
	})
}

// A machine that cannot configure any package for days is not the fault of the version.
func TestRunsThatFailHoldNothing(t *testing.T) {
	s := newFakeSite(t)
	s.write("hook", `case "$name $args" in *--allow-downgrades*) version=${args##*/dbtofile_} && echo "half-configured ${version%_*}" >"$S/installed"; exit 1 ;; dpkg\ --force*) exit 1 ;; esac`)
	s.update(1, "half-configured 1.0.0", "cannot roll back")
	for range 4 {
		s.update(1, "half-configured 1.0.0", "finishing it", "cannot roll back")
	}
	s.write("hook", "")
	s.update(0, newInstalled)
	assert.Empty(t, s.read("lib/held"))
}

// Another apt may hold the lock for longer than one attempt waits.
func TestARollbackIsRepeated(t *testing.T) {
	s := newFakeSite(t)
	s.write("hook", `case $args in *--allow-downgrades*/dbtofile_1.0.0*) ! once a && ! once b && ! once c || exit 1 ;; esac
		[ "$name $version" != "curl 1.1.0" ] || page=`)
	s.update(4, oldInstalled)
}

func TestTheOldVersionFailsToo(t *testing.T) {
	t.Run("with the same error", func(t *testing.T) {
		s := newFakeSite(t)
		s.write("hook", `page=${page/\"attempts/\"last_error\": \"no route $RANDOM\", \"attempts} && [ $version = 1.0.0 ] || page=${page/true/false}`)
		s.update(3, oldInstalled, "version 1.0.0 reported the same error: no route #")
		assert.Empty(t, s.read("lib/held"))
	})
	t.Run("and is not healthy", func(t *testing.T) {
		s := newFakeSite(t)
		s.write("hook", `[ $name != curl ] || case $version in 1.1.0) once asked; page= ;; *) [ ! -e "$S/once.asked" ] || page= ;; esac`)
		s.update(3, oldInstalled, "version 1.0.0 is not healthy either: dbtofile.service is not ready")
		assert.Empty(t, s.read("lib/held"))
	})
}
