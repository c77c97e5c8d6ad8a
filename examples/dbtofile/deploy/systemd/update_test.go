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
	t.Parallel()
	systemdlab.Need(t)
	r := newReleases(t)
	t.Run("", func(t *testing.T) {
		// The longest first.
		t.Run("KilledRollback", func(t *testing.T) { killedRollback(t, r) })
		t.Run("Outage", func(t *testing.T) { outage(t, r) })
		t.Run("Hanging", func(t *testing.T) {
			releasesOf(t, r, inTurn(release{wrapper: unready}, release{wrapper: sleeps}, release{wrapper: sticks})...)
		})
		t.Run("Killed", func(t *testing.T) { killed(t, r) })
		t.Run("PutOff", func(t *testing.T) { putOff(t, r) })
		t.Run("Crashing", func(t *testing.T) {
			faults := inTurn(release{wrapper: exits, conf: "broken {"}, release{wrapper: dies}, release{wrapper: misconfigured})
			releasesOf(t, r, append(faults, release{postinst: "exit 1"})...)
		})
		t.Run("EarlierErrors", func(t *testing.T) { earlierErrors(t, r) })
		t.Run("Refused", func(t *testing.T) { refused(t, r) })
		t.Run("HeldByUser", func(t *testing.T) { heldByUser(t, r) })
		t.Run("FullDisk", func(t *testing.T) { fullDisk(t, r) })
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
	s.Write("/etc/dbtofile/update.env", "settle=5 gate=30\n")
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
	// Settings of the machine that must not matter.
	s.Must("apt-mark", "auto", "apt-utils") // so that it may be removed
	s.Write("/etc/apt/apt.conf.d/99lab", `Acquire::Check-Date "false"; Acquire::Check-Valid-Until "false"; Acquire::Min-ValidTime "100000000";
		Acquire::AllowInsecureRepositories "true"; Acquire::AllowWeakRepositories "true";
		Acquire::AllowDowngradeToInsecureRepositories "true"; APT::Get::AllowUnauthenticated "true"; Acquire::By-Hash "no";
		APT::Default-Release "stable"; APT::Get::AutomaticRemove "true";`+"\n")
	for _, path := range []string{"/etc/apt/preferences", "/etc/apt/preferences.d/99lab"} {
		s.Write(path, "Package: *\nPin: release o=dbtofile\nPin-Priority: -1\n")
	}
	s.update(0, "up to date: "+first)
	s.publish(release{version: version(1)})
	index := s.read("InRelease")

	s.sign(foreign, func(text string) string { return text })
	refuse("signed with another key", "NO_PUBKEY")
	plain := s.releases.run(t, "gpg", "--decrypt", s.public+"/InRelease")
	s.write("InRelease", plain)
	refuse("not signed", "is refused")
	s.write("InRelease", strings.Replace(index, "Origin: dbtofile", "Origin: somebody", 1))
	refuse("a changed index", "BADSIG")
	s.write("InRelease", index)
	s.sign(ours, func(text string) string {
		return regexp.MustCompile(`Valid-Until: .*`).ReplaceAllString(text, "Valid-Until: "+time.Now().Add(-time.Minute).UTC().Format(time.RFC1123Z))
	})
	refuse("expired, on a machine that accepts this elsewhere", "expired")
	s.remove("InRelease")
	refuse("no index", "is refused")
	s.write("Release", plain)
	refuse("an index without a signature, in two files", "is refused")
	s.remove("Release")
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
	s.publish(release{version: version(1), conflict: "apt-utils"})
	refuse("a package that removes another", "cannot be downloaded")
	s.publish(release{version: version(1), preinst: "exit 1"})
	s.Must("mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", "/var/lib/dbtofile-update/archives")
	s.Must("mkdir", "/var/lib/dbtofile-update/archives/partial")
	refuse("no space for two packages", "no way back")
	s.Must("umount", "/var/lib/dbtofile-update/archives")
	refuse("a package whose script refuses", "cannot be installed")
	require.Equal(t, "14", s.metric("failures_total"))
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
	s.publish(release{version: version(1), postinst: "setsid sleep 1000 </dev/null >/dev/null 2>&1 &"})
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
	s.Must("systemctl", "mask", "--quiet", service)
	s.update(3, service+" runs and is masked")
	s.Must("systemctl", "unmask", "--quiet", service)

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
	s.Must("dpkg", "--unpack", "/opt/lab/public/"+debName(version(1))) // as a kill leaves it; dpkg, unlike apt, keeps open files open
	s.Must("sed", "-i", `s/ upgrading=""/ upgrading="yes"/`, "/var/lib/dbtofile-update/state")
	s.Must("env", "-i", "/bin/bash", "-c", string(line[1]))
	s.runs(version(1))
	s.Must("pgrep", "-x", "sleep") // which the script of the package has left
	s.Must("flock", "--nonblock", "/var/lib/dbtofile-update/lock", "true")
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

// outage has the database down during an upgrade: so that both versions fail, so that the old one has failed for a
// while, and so that it ends before the old one starts.
func outage(t *testing.T, r releases) {
	s := newSite(t, r, release{version: first, preinst: "[ ! -e /run/go ] || until [ -e /run/back ]; do sleep 0.1; done"})
	for i, gate := range []string{"settle=1 gate=5", "settle=1 gate=10", "settle=1 gate=30"} {
		s.Write("/etc/dbtofile/update.env", gate+"\n")
		s.Must("rm", "-f", "/run/go", "/run/back")
		s.publish(release{version: version(1 + i), preinst: "until [ -e /run/go ]; do sleep 0.1; done"})
		before := s.lines()
		s.Must("systemctl", "start", "--no-block", "dbtofile-update")
		s.Eventually("the installation begins", func() bool {
			return strings.Contains(s.said(before), "Unpacking") || strings.Contains(s.said(before), "Preparing")
		})
		unlock := s.lock()
		s.Must("touch", "/run/go")
		s.Eventually("the new version has failed", func() bool { return strings.Contains(s.said(before), "rolling back") })
		if i == 2 {
			unlock()
		}
		s.Must("touch", "/run/back")
		if i == 1 { // it ends while the old version runs again
			s.Eventually("the old version fails as well", func() bool { st := s.status(9464); return st.Version == first && st.failing() })
			unlock()
		}
		s.Eventually("the upgrade ends", s.idle)
		if i < 2 {
			s.ended(before, 3, "may not be the cause")
			unlock()
			s.runs(first)
			require.Equal(t, "0", s.metric("quarantined_releases"))
			require.Equal(t, "1", s.metric("pending"))
			continue
		}
		s.ended(before, 0, "upgraded from "+first+" to "+version(3))
		require.Contains(t, s.said(before), "trying version "+version(3)+" a second time")
	}
	require.Equal(t, "0", s.metric("rollbacks_total"))
	s.runs(version(3))
	s.noneLost()
}

// earlierErrors has the old version fail for another reason than the new one: long ago, on a page that is read
// while it stops, and for a moment when it is back.
func earlierErrors(t *testing.T, r releases) {
	s := newSite(t, r, release{version: first, preinst: "[ ! -e /run/go ] || until [ -e /run/back ]; do sleep 0.1; done"})
	fails := func() bool { st := s.status(9464); return st.Version == first && st.failing() }
	unlock := s.lock()
	s.Eventually("the old version fails", fails)
	unlock()
	s.runs(first)
	s.Unit(service+".d/stop.conf", "[Service]\nExecStop=/bin/sleep 3\n")
	s.Write("/etc/dbtofile/update.env", "settle=1 gate=20\n")
	s.Must("touch", "/run/go")
	s.publish(release{version: version(1), wrapper: unready})
	before := s.lines()
	s.Must("systemctl", "start", "--no-block", "dbtofile-update")
	for i := range 2 { // twice, or it may be an accident
		s.Eventually("the new version has failed", func() bool { return strings.Count(s.said(before), "rolling back") == i+1 })
		unlock := s.lock()
		s.Must("touch", "/run/back")
		s.Eventually("the old version fails", fails)
		s.Must("rm", "/run/back")
		unlock()
	}
	s.Eventually("the upgrade ends", s.idle)
	s.ended(before, 4, "trying version "+version(1)+" a second time")
	s.runs(first)
	s.update(0, version(1)+" was rolled back and is held")
	s.noneLost()
}

// fullDisk has an upgrade fill the disk, so that nothing can be recorded.
func fullDisk(t *testing.T, r releases) {
	s := newSite(t, r)
	s.Must("sh", "-c", "mkdir /run/kept && cp -a /var/lib/dbtofile-update/. /run/kept && mount -t tmpfs -o size=80m tmpfs /var/lib/dbtofile-update && cp -a /run/kept/. /var/lib/dbtofile-update")
	s.publish(release{version: version(1), postinst: "cat /dev/zero >/var/lib/dbtofile-update/full; exit 1"})
	s.update(1, "No space left on device")
	s.runs(first)
	s.Must("rm", "/var/lib/dbtofile-update/full")
	s.Must("systemctl", "start", "--no-block", updater) // it fills it again
	s.Eventually("the upgrade ends", s.idle)
	s.runs(first)
	s.noneLost()
}
