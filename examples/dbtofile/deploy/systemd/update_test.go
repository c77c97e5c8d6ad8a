//go:build linux

package systemd_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

// TestUpdates runs dbtofile-update in a real systemd, with an apt repository that is served over
// HTTP and a table that grows.
func TestUpdates(t *testing.T) {
	systemdlab.Need(t)
	r := newReleases(t)
	t.Run("", func(t *testing.T) {
		t.Run("Crashing", func(t *testing.T) {
			releasesOf(t, r, release{wrapper: exits}, release{wrapper: dies}, release{wrapper: misconfigured}, release{postinst: "exit 1"})
		})
		t.Run("Hanging", func(t *testing.T) { releasesOf(t, r, release{wrapper: unready}, release{wrapper: sleeps}) })
		t.Run("Refused", func(t *testing.T) { refused(t, r) })
		t.Run("PutOff", func(t *testing.T) { putOff(t, r) })
		t.Run("Outage", func(t *testing.T) { outage(t, r) })
		t.Run("Killed", func(t *testing.T) { killed(t, r) })
		t.Run("KilledRollback", func(t *testing.T) { killedRollback(t, r) })
		t.Run("KilledAgain", func(t *testing.T) { killedAgain(t, r) })
	})
}

// releasesOf upgrades to a good version, offers those that have faults, and upgrades to another good one.
func releasesOf(t *testing.T, r releases, faults ...release) {
	s := newSite(t, r)
	s.update(0, "up to date: "+first)
	require.Empty(t, s.metric("last_deploy_timestamp_seconds"))
	s.publish(release{version: version(1)})
	began := time.Now()
	s.update(0, "upgraded from "+first+" to "+version(1))
	t.Logf("good, proven for 1 s: %v", time.Since(began).Round(100*time.Millisecond))
	s.runs(version(1))
	require.Equal(t, "1", s.metric(`info{version="`+version(1)+`"}`))
	s.update(0, "up to date: "+version(1))

	// Each of them fails within 5 seconds, or never becomes ready.
	s.Write("/etc/dbtofile/update.env", "settle=5 gate=40\n")
	for i, fault := range faults {
		fault.version = version(2 + i)
		s.publish(fault)
		began := time.Now()
		s.update(4, "rolling back to "+version(1))
		t.Logf("%+v, the old one proven for 5 s: %v", fault, time.Since(began).Round(100*time.Millisecond))
		s.runs(version(1))
		s.update(0, fault.version+" was rolled back and is held")
	}
	require.Equal(t, fmt.Sprint(len(faults)), s.metric("rollbacks_total"))
	require.Equal(t, fmt.Sprint(len(faults)), s.metric("quarantined_releases"))
	require.Equal(t, "0", s.metric("pending"))
	require.NotEmpty(t, s.metric("last_rollback_timestamp_seconds"))

	s.publish(release{version: version(8)})
	s.Must("dpkg", "--install", "/opt/lab/public/"+debName(version(8))) // by hand
	s.update(0, "up to date: "+version(8))
	require.Equal(t, "0", s.metric("quarantined_releases"))
	s.Eventually("ready", func() bool { return s.healthy(version(8)) })

	s.Write("/etc/dbtofile/update.env", quick)
	s.publish(release{version: version(9)})
	s.Unit("dbtofile-update.timer.d/lab.conf", "[Timer]\nOnCalendar=\nOnActiveSec=0\nRandomizedDelaySec=0\n")
	s.Must("systemctl", "start", "dbtofile-update.timer")
	s.Eventually("the timer has started it", func() bool { return s.metric(`info{version="`+version(9)+`"}`) == "1" })
	s.Eventually("the upgrade ends", s.idle)
	s.runs(version(9))
	require.Equal(t, "0", s.metric("quarantined_releases"))
	require.Equal(t, "2", s.metric("deploys_total"))
	s.tidy(version(9))
	s.noneLost()
}

// refused offers indexes and packages that must not be installed.
func refused(t *testing.T, r releases) {
	s := newSite(t, r)
	invocation := s.Show(service, "InvocationID")
	refuse := func(what, want string) {
		t.Helper()
		t.Log(what)
		s.update(1, want)
		require.Equal(t, invocation, s.Show(service, "InvocationID"), what)
		s.runs(first)
	}
	s.update(0, "up to date: "+first)
	s.publish(release{version: version(1)})
	index := s.read("InRelease")

	s.sign(foreign, func(text string) string { return text })
	refuse("signed with another key", "NO_PUBKEY")
	s.write("InRelease", s.releases.run(t, "gpg", "--decrypt", s.public+"/InRelease"))
	refuse("not signed", "is refused")
	s.write("InRelease", strings.Replace(index, "Origin: dbtofile", "Origin: somebody", 1))
	refuse("a changed index", "BADSIG")
	s.write("InRelease", index)
	s.Write("/etc/apt/apt.conf.d/99lab", `Acquire::Check-Date "false"; Acquire::Check-Valid-Until "false"; Acquire::AllowInsecureRepositories "true"; APT::Get::AllowUnauthenticated "true";`+"\n")
	s.sign(ours, func(text string) string {
		return regexp.MustCompile(`Valid-Until: .*`).ReplaceAllString(text, "Valid-Until: "+time.Now().Add(-time.Minute).UTC().Format(time.RFC1123Z))
	})
	refuse("expired, on a machine that accepts this elsewhere", "expired")
	s.remove("InRelease")
	refuse("no index", "is refused")
	s.write("InRelease", index)
	s.rename("by-hash", "by-hash.away")
	refuse("no list of packages", "is refused")
	s.rename("by-hash.away", "by-hash")

	name := "dbtofile_" + version(1) + "_amd64.deb"
	text := s.read(name)
	s.write(name, text[:len(text)/2]+"changed"+text[len(text)/2+len("changed"):])
	refuse("a changed package", "cannot be downloaded")
	s.write(name, text[:len(text)/2])
	refuse("half a package", "cannot be downloaded")
	s.remove(name)
	refuse("no package", "cannot be downloaded")
	s.publish(release{version: version(1), depends: "not-in-this-repository"})
	refuse("a dependency that is not installed", "cannot be downloaded")
	s.publish(release{version: version(1), preinst: "exit 1"})
	s.Must("mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", "/var/lib/dbtofile-update/archives")
	s.Must("mkdir", "/var/lib/dbtofile-update/archives/partial")
	refuse("no space for two packages", "no way back")
	s.Must("umount", "/var/lib/dbtofile-update/archives")
	refuse("a package whose script refuses", "cannot be installed")
	require.Equal(t, "12", s.metric("failures_total"))
	require.Equal(t, "1", s.metric("pending"))

	// Whoever replays an old index cannot make a machine forget the new one.
	index = s.read("InRelease")
	s.publish(release{version: version(2)})
	s.Must("systemctl", "stop", service)
	s.update(3, "no unit is running")
	s.write("InRelease", index)
	s.Must("systemctl", "start", service)
	s.runs(first)
	s.update(0, "upgraded from "+first+" to "+version(2))
	s.runs(version(2))

	// A repository that has only older versions, and a version from which there would be no way back.
	s.remove(name)
	s.remove("dbtofile_" + version(2) + "_amd64.deb")
	s.publish()
	s.update(0, "up to date: "+version(2))
	s.publish(release{version: version(3)})
	const clear = "rm /var/lib/dbtofile-update/archives/*.deb"
	s.Must("sh", "-c", clear)
	s.update(1, "no way back")
	s.runs(version(2))
	s.Must("sh", "-c", clear)
	s.Must("sed", "-i", "s#http://.*#file:/opt/lab/public#", "/etc/dbtofile/apt/dbtofile.sources")
	s.update(1, "copy:")
	s.Must("rm", "/etc/dbtofile/apt/dbtofile.sources")
	s.update(1, "no repository is set")
	s.noneLost()
}

// putOff has dbtofile in states in which it must not be upgraded.
func putOff(t *testing.T, r releases) {
	s := newSite(t, r)
	s.publish(release{version: version(1)})
	invocation := s.Show(service, "InvocationID")
	unlock := s.lock()
	s.Eventually("dbtofile is not ready", func() bool { return !s.healthy(first) })
	s.update(3, "is not ready with version "+first)
	require.Equal(t, invocation, s.Show(service, "InvocationID"), "it is left alone")
	require.Equal(t, "1", s.metric("deferrals_total"))
	require.Equal(t, "1", s.metric("pending"))
	unlock()
	s.runs(first)

	s.Must("apt-mark", "hold", "dbtofile")
	s.update(0, "on hold")
	s.Must("apt-mark", "unhold", "dbtofile")
	s.Must("sh", "-c", "flock --nonblock /var/lib/dbtofile-update/lock dbtofile-update || test $? = 5")

	// All copies are watched, and upgraded together.
	s.configure("copy", shopDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id")
	s.Must("systemctl", "start", "dbtofile@copy")
	s.update(3, "dbtofile@copy.service does not run, or has no DBTOFILE_LISTEN")
	s.configure("copy", shopDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_LISTEN=0.0.0.0:9465")
	s.Must("systemctl", "restart", "dbtofile@copy")
	s.Eventually("the copy is ready", func() bool { return s.answers(9465, first) })
	s.update(0, "upgraded from "+first+" to "+version(1))
	s.runs(version(1))
	require.True(t, s.answers(9465, version(1)))

	// By hand, and by cron, as in the README.
	s.Must("apt-get", "-c", "/usr/share/dbtofile/apt.conf", "install", "-y", "--allow-downgrades", "dbtofile="+first)
	s.runs(first)
	text, err := os.ReadFile("../apt/README.md")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^ +0 3 \* \* \* root sleep \$\(\(RANDOM \\% 7200\)\); (.*)$`).FindSubmatch(text)
	require.NotNil(t, line)
	s.Must("env", "-i", "/bin/bash", "-c", string(line[1]))
	s.runs(version(1))
	require.Contains(t, s.Must("journalctl", "--identifier=dbtofile-update", "--output=cat"), "upgraded from "+first+" to "+version(1))

	// A status page with a password.
	s.publish(release{version: version(2)})
	s.Write(shop+"/web.yml", "basic_auth_users:\n  ada: $2a$04$fdy4UdZ5J6UlfqC36N5SuuVEx0SF.p9FGNt2wqMMF92bYCSLqE6fq\n")
	plain := s.Must("cat", "/etc/dbtofile/dbtofile.env")
	s.Must("systemctl", "stop", "dbtofile@copy")
	s.Write("/etc/dbtofile/dbtofile.env", plain+"\nDBTOFILE_WEB_CONFIG_FILE="+shop+"/web.yml\n")
	s.Must("systemctl", "restart", service)
	s.update(3, "401")
	s.Write("/etc/dbtofile/update.curl", `user = "ada:secret"`+"\n")
	s.Eventually("the service has read the database", func() bool {
		_, err := s.Run(t.Context(), "sh", "-c", "curl -fsS --config /etc/dbtofile/update.curl http://127.0.0.1:9464/status | jq -e 'all(.pipelines[]; .last_poll)'")
		return err == nil
	})
	s.Write("/etc/dbtofile/update.env", quick+"curl='--config /etc/dbtofile/update.curl'\n")
	s.update(0, "upgraded from "+version(1)+" to "+version(2))
	s.Write("/etc/dbtofile/dbtofile.env", plain+"\n")
	s.Write("/etc/dbtofile/update.env", quick)
	s.Must("systemctl", "restart", service)
	s.runs(version(2))

	// A stopped unit stays stopped.
	s.Must("systemctl", "stop", service)
	s.publish(release{version: version(3)})
	s.update(3, "no unit is running")
	require.Equal(t, "inactive", s.Show(service, "ActiveState"))

	// A version that cannot start is replaced by force.
	s.Unit(service+".d/lab.conf", "[Service]\nExecStart=\nExecStart=sh -c '! grep -q "+version(2)+" /usr/bin/dbtofile || exit 2; exec dbtofile'\n")
	_, err = s.Run(t.Context(), "systemctl", "start", service)
	require.Error(t, err)
	require.Equal(t, "failed", s.Show(service, "ActiveState"))
	s.update(3, service+" does not run")
	s.Must("dbtofile-update", "-force")
	s.runs(version(3))
	s.noneLost()
}

// outage has the database down during an upgrade, so that both versions fail.
func outage(t *testing.T, r releases) {
	s := newSite(t, r)
	for i, gate := range []string{"8", "40"} {
		s.Write("/etc/dbtofile/update.env", "settle=1 gate="+gate+"\n")
		s.Must("rm", "-f", "/run/go")
		s.publish(release{version: version(1 + i), preinst: "until [ -e /run/go ]; do sleep 0.1; done"})
		before := s.lines()
		s.Must("systemctl", "start", "--no-block", "dbtofile-update")
		s.Eventually("the installation begins", func() bool {
			return strings.Contains(s.said(before), "Unpacking") || strings.Contains(s.said(before), "Preparing")
		})
		unlock := s.lock()
		s.Must("touch", "/run/go")
		s.Eventually("the new version has failed", func() bool { return strings.Contains(s.said(before), "rolling back") })
		if gate == "40" { // it ends while the old version runs again, which has time enough to become ready
			s.Eventually("the old version fails as well", func() bool { st := s.status(9464); return st.Version == first && st.failing() })
			unlock()
		}
		s.Eventually("the upgrade ends", s.idle)
		s.ended(before, 3, "may not be the cause")
		unlock()
		s.runs(first)
		require.Equal(t, "0", s.metric("quarantined_releases"))
		require.Equal(t, "1", s.metric("pending"))
	}
	s.Write("/etc/dbtofile/update.env", quick)
	s.update(0, "upgraded from "+first+" to "+version(2))
	s.runs(version(2))
	s.noneLost()
}

// killed kills an upgrade at each of its steps, and requires that the run that systemd starts then finishes it.
func killed(t *testing.T, r releases) {
	s := newSite(t, r)
	s.arm()
	n := 1
	for ; ; n++ {
		s.publish(release{version: version(n)})
		s.killAt(n)
		before := s.lines()
		_, _ = s.Run(t.Context(), "systemctl", "start", "dbtofile-update")
		s.Eventually("the upgrade ends", s.idle)
		s.ended(before, 0, "upgraded from")
		s.runs(version(n))
		s.tidy(version(n))
		if !s.fired() {
			break
		}
	}
	t.Logf("killed at %d steps, and finished each time by the next run", n-1)
	require.Greater(t, n, 10)
	s.noneLost()
}

// killedRollback kills an upgrade to a version that crashes.
func killedRollback(t *testing.T, r releases) {
	s := newSite(t, r)
	s.arm()
	n := 1
	for ; ; n++ {
		s.publish(release{version: version(n), wrapper: exits})
		s.killAt(n + 12) // the steps before are those of killed
		before := s.lines()
		_, _ = s.Run(t.Context(), "systemctl", "start", "dbtofile-update")
		s.Eventually("the upgrade ends", s.idle)
		s.ended(before, 4, "rolling back")
		s.runs(first)
		s.tidy(first, "held")
		if !s.fired() {
			break
		}
	}
	t.Logf("killed at %d steps, and finished each time by the next run", n-1)
	require.Greater(t, n, 10)
	s.noneLost()
}

// killedAgain has a version whose installation kills whatever installs it.
func killedAgain(t *testing.T, r releases) {
	s := newSite(t, r)
	s.publish(release{version: version(1), postinst: "systemctl kill --signal=KILL dbtofile-update; sleep infinity"})
	before := s.lines()
	_, _ = s.Run(t.Context(), "systemctl", "start", "dbtofile-update")
	s.Eventually("the upgrade ends", s.idle)
	s.ended(before, 4, "rolling back")
	require.Equal(t, 3, strings.Count(s.said(before), "an earlier run was interrupted"), s.said(before))
	s.runs(first)
	s.update(0, "is held")
	s.noneLost()
}
