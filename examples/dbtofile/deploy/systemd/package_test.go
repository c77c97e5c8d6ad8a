//go:build linux

package systemd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packageLife installs, configures, goes up and down, removes and purges.
func packageLife(t *testing.T, packages string) {
	m := boot(t, packages)
	current := func() string {
		target, err := os.Readlink(m.Path("/opt/dbtofile/current"))
		require.NoError(t, err)
		return target
	}

	// In a chroot, where no systemd runs: as an image is made.
	m.Must("mkdir", "/chroot")
	m.Must("mount", "--bind", "/", "/chroot")
	m.Must("mount", "--bind", "/opt/lab", "/chroot/opt/lab")
	m.Must("chroot", "/chroot", "dpkg", "--install", deb("1.0.0"))
	m.Must("umount", "/chroot/opt/lab", "/chroot")
	m.Must("systemctl", "daemon-reload") // the machine boots
	assert.Equal(t, "enabled", m.Must("systemctl", "is-enabled", service))
	assert.Equal(t, "releases/1.0.0", current())
	assert.Equal(t, "600", m.Must("stat", "--format=%a", "/var/lib/dbtofile-update/lock"))
	assert.Contains(t, m.Must("dbtofile", "-version"), "dbtofile 1.0.0")
	assert.Contains(t, m.Must("dbtofile-update", "-version"), "1.0.0")
	units(t, m)

	// Not configured, it does not start, and that is no failure.
	m.Must("systemctl", "start", service)
	assert.Equal(t, "inactive", m.Show(service, "ActiveState"))
	assert.Equal(t, "no", m.Show(service, "ConditionResult"))

	// Three copies side by side, of one database.
	names := []string{"orders", "customers", "stock"}
	db := m.sqlite(names...)
	want := map[string]string{}
	for i, name := range names {
		tx := db.MustBegin()
		for n := range 1000 {
			tx.MustExec("insert into "+name+" (body) values (?)", fmt.Sprint(name, n))
			want[name] += fmt.Sprintf("{\"id\":%d,\"body\":\"%s%d\"}\n", n+1, name, n)
		}
		require.NoError(t, tx.Commit())
		instance := name
		if i == 0 {
			instance = ""
		}
		m.configure(instance, shopDSN, "DBTOFILE_TABLE="+name, "DBTOFILE_KEY=id", fmt.Sprintf("DBTOFILE_LISTEN=:%d", 9464+i))
	}
	all := []string{service, "dbtofile@customers.service", "dbtofile@stock.service"}
	m.Must(append([]string{"systemctl", "enable", "--now", "--quiet"}, all...)...)
	m.same(out, want["orders"])
	m.same(out+"/customers", want["customers"])
	m.same(out+"/stock", want["stock"])
	states := func() []string {
		return strings.Fields(m.Must(append([]string{"systemctl", "show", "--value", "--property=ActiveState"}, all...)...))
	}
	assert.Equal(t, []string{"active", "active", "active"}, states())
	secret := m.Must("sh", "-c", "cat /proc/"+m.Show(service, "MainPID")+"/environ")
	assert.NotContains(t, secret, "shop.db", "the DSN is in no environment")
	const credential = "/run/credentials/" + service + "/dsn"
	for who, command := range map[string][]string{
		"another user": {"runuser", "-u", "nobody", "--", "cat", credential},
		"one who takes the files, as README.md has it": {"systemd-run", "--quiet", "--pipe", "--wait", "--property=User=dbtofile",
			"--property=InaccessiblePaths=-/run/credentials", "cat", credential},
		"another copy": {"nsenter", "--target", m.Show(all[1], "MainPID"), "--mount", "cat", credential},
	} {
		_, err := m.Run(t.Context(), command...)
		require.Error(t, err, who)
	}
	assert.Contains(t, m.Must("runuser", "-u", "dbtofile", "--", "cat", credential), "shop.db", "it is there")

	// Settings that were changed survive an upgrade, and so do those who run.
	m.install("1.1.0")
	assert.Equal(t, "releases/1.1.0", current())
	for _, unit := range all {
		m.Eventually(unit+" runs the new version", func() bool {
			text, err := m.Run(t.Context(), "sh", "-c", "/proc/"+m.Show(unit, "MainPID")+"/exe -version")
			return err == nil && strings.Contains(text, "dbtofile 1.1.0") && m.Show(unit, "ActiveState") == "active"
		})
	}
	settings, err := os.ReadFile(m.Path("/etc/dbtofile/dbtofile.env"))
	require.NoError(t, err)
	assert.Contains(t, string(settings), "DBTOFILE_TABLE=orders")

	// An older one is what the administrator wants, unless the updater has brought a newer.
	m.install("1.0.0")
	assert.Equal(t, "releases/1.0.0", current())
	m.Must("cp", "-r", "/opt/dbtofile/releases/1.1.0", "/opt/dbtofile/releases/9.0.0")
	m.Must("ln", "-sfn", "releases/9.0.0", "/opt/dbtofile/current")
	m.install("1.1.0")
	assert.Equal(t, "releases/9.0.0", current())
	// A damaged release is mended, and what an interrupted attempt left goes.
	m.Must("truncate", "--size=1000", "/opt/dbtofile/releases/1.1.0/dbtofile")
	m.Must("cp", "-r", "/opt/dbtofile/releases/1.1.0", "/opt/dbtofile/releases/.1.1.0.package.4f8KqZ")
	m.install("1.1.0")
	assert.Contains(t, m.Must("/opt/dbtofile/releases/1.1.0/dbtofile", "-version"), "dbtofile 1.1.0")
	assert.Equal(t, "1.0.0\n1.1.0\n9.0.0", m.Must("ls", "-A", "/opt/dbtofile/releases"))
	_, err = m.Run(t.Context(), "runuser", "-u", "nobody", "--", "flock", "--nonblock", "/var/lib/dbtofile-update/lock", "true")
	require.Error(t, err, "anybody could keep the package from being installed")

	// What is disabled or stopped stays so.
	m.Must("systemctl", "disable", "--now", "--quiet", all[1])
	m.install("1.0.0")
	m.Eventually("those that ran run again", func() bool {
		return slices.Equal([]string{"active", "inactive", "active"}, states())
	})

	m.Must("dpkg", "--remove", "dbtofile")
	assert.Equal(t, []string{"inactive", "inactive", "inactive"}, states())
	assert.NoFileExists(t, m.Path("/usr/lib/dbtofile/dbtofile"))
	assert.FileExists(t, m.Path("/etc/dbtofile/dsn"))
	m.install("1.1.0")
	m.Must("systemctl", "start", service, all[2])
	assert.Equal(t, []string{"active", "inactive", "active"}, states())

	m.Must("dpkg", "--purge", "dbtofile")
	for _, gone := range []string{"/etc/dbtofile", "/opt/dbtofile", "/usr/bin/dbtofile", "/var/lib/dbtofile-update"} {
		_, err := os.Lstat(m.Path(gone))
		require.ErrorIs(t, err, os.ErrNotExist, gone)
	}
	wants, err := filepath.Glob(m.Path("/etc/systemd/system/*.wants/dbtofile*"))
	require.NoError(t, err)
	assert.Empty(t, wants)
	m.same(out, want["orders"])
	m.same(out+"/stock", want["stock"])

	// Who does not want it to start may say so before. And a unit that is gone keeps nothing from going.
	m.Must("systemctl", "mask", "--quiet", service)
	m.install("1.0.0")
	m.Must("systemctl", "unmask", "--quiet", service)
	assert.Equal(t, "disabled", m.Show(service, "UnitFileState"))
	m.Must("rm", "/usr/lib/systemd/system/"+service)
	m.Must("systemctl", "daemon-reload")
	m.Must("dpkg", "--purge", "dbtofile")
}
