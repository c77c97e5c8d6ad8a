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

// packageLife installs, configures, upgrades, downgrades, removes and purges the package.
func packageLife(t *testing.T, packages string) {
	m := boot(t, packages)
	// In a chroot, where no systemd runs: as an image is made.
	m.Must("mkdir", "/chroot")
	m.Must("mount", "--bind", "/", "/chroot")
	m.Must("mount", "--bind", "/opt/lab", "/chroot/opt/lab")
	m.Must("chroot", "/chroot", "dpkg", "--install", deb("1.0.0"))
	m.Must("umount", "/chroot/opt/lab", "/chroot")
	m.Must("systemctl", "daemon-reload") // the machine boots
	assert.Equal(t, "enabled", m.Must("systemctl", "is-enabled", service))
	assert.Contains(t, m.Must("dbtofile", "-version"), "dbtofile 1.0.0")
	units(t, m)
	m.Must("systemctl", "enable", "--quiet", "dbtofile-update.timer")
	assert.Equal(t, "enabled", m.Must("systemctl", "is-enabled", "dbtofile-update-boot.timer"))

	// Without a DSN it does not start, and does not fail.
	m.Must("systemctl", "start", service)
	assert.Equal(t, "inactive", m.Show(service, "ActiveState"))
	assert.Equal(t, "no", m.Show(service, "ConditionResult"))

	// Three copies of one database.
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
		"a program that takes the files, as in README.md": {"systemd-run", "--quiet", "--pipe", "--wait", "--property=User=dbtofile",
			"--property=InaccessiblePaths=-/run/credentials", "cat", credential},
		"another copy": {"nsenter", "--target", m.Show(all[1], "MainPID"), "--mount", "cat", credential},
	} {
		_, err := m.Run(t.Context(), command...)
		require.Error(t, err, who)
	}
	assert.Contains(t, m.Must("runuser", "-u", "dbtofile", "--", "cat", credential), "shop.db", "it is there")

	// An upgrade keeps changed settings, and restarts what runs.
	running := func(version string) {
		t.Helper()
		for _, unit := range all {
			m.Eventually(unit+" runs "+version, func() bool {
				text, err := m.Run(t.Context(), "sh", "-c", "/proc/"+m.Show(unit, "MainPID")+"/exe -version")
				return err == nil && strings.Contains(text, "dbtofile "+version) && m.Show(unit, "ActiveState") == "active"
			})
		}
	}
	m.install("1.1.0")
	running("1.1.0")
	settings, err := os.ReadFile(m.Path("/etc/dbtofile/dbtofile.env"))
	require.NoError(t, err)
	assert.Contains(t, string(settings), "DBTOFILE_TABLE=orders")

	// An older version is installed just the same. A unit that has failed is started by either.
	m.Unit(all[2]+".d/fail.conf", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'exit 2'\n")
	m.Must("systemctl", "restart", "--no-block", all[2])
	m.Eventually("the third has failed", func() bool { return m.Show(all[2], "ActiveState") == "failed" })
	m.Must("rm", "/etc/systemd/system/"+all[2]+".d/fail.conf")
	m.install("1.0.0")
	running("1.0.0")

	// systemd does not start what is masked. It runs on with the program that it has.
	m.Must("systemctl", "mask", "--quiet", all[1])
	pid := m.Show(all[1], "MainPID")
	m.install("1.1.0")
	assert.Equal(t, pid, m.Show(all[1], "MainPID"))
	m.Must("systemctl", "unmask", "--quiet", all[1])
	m.Unit(all[1]+".d/bad.conf", "[Service]\nExecStart=\n")
	assert.Equal(t, "bad-setting", m.Show(all[1], "LoadState"))
	m.install("1.1.0")
	assert.Equal(t, pid, m.Show(all[1], "MainPID"))
	m.Must("rm", "/etc/systemd/system/"+all[1]+".d/bad.conf")
	m.Must("systemctl", "daemon-reload")

	// A unit that is disabled or stopped stays so.
	m.Must("systemctl", "disable", "--now", "--quiet", all[1])
	m.install("1.1.0")
	m.Eventually("those that ran run again", func() bool {
		return slices.Equal([]string{"active", "inactive", "active"}, states())
	})

	m.Must("dpkg", "--remove", "dbtofile")
	assert.Equal(t, []string{"inactive", "inactive", "inactive"}, states())
	assert.NoFileExists(t, m.Path("/usr/bin/dbtofile"))
	assert.FileExists(t, m.Path("/etc/dbtofile/dsn"))
	m.install("1.1.0")
	m.Must("systemctl", "start", service, all[2])
	assert.Equal(t, []string{"active", "inactive", "active"}, states())

	m.Must("dpkg", "--purge", "dbtofile")
	for _, gone := range []string{"/etc/dbtofile", "/usr/bin/dbtofile", "/usr/sbin/dbtofile-update", "/var/lib/dbtofile-update"} {
		_, err := os.Lstat(m.Path(gone))
		require.ErrorIs(t, err, os.ErrNotExist, gone)
	}
	wants, err := filepath.Glob(m.Path("/etc/systemd/system/*.wants/dbtofile*"))
	require.NoError(t, err)
	assert.Empty(t, wants)
	m.same(out, want["orders"])
	m.same(out+"/stock", want["stock"])

	m.Must("systemctl", "mask", "--runtime", "--quiet", service)
	m.install("1.0.0")
	m.Must("systemctl", "unmask", "--runtime", "--quiet", service)
	assert.Equal(t, "disabled", m.Show(service, "UnitFileState"))
	m.Must("dpkg", "--purge", "dbtofile")

	// A masked service is not started. A missing unit does not prevent the removal.
	m.Must("systemctl", "mask", "--quiet", service)
	m.install("1.0.0")
	m.Must("systemctl", "unmask", "--quiet", service)
	assert.Equal(t, "disabled", m.Show(service, "UnitFileState"))
	m.Must("rm", "/usr/lib/systemd/system/"+service)
	m.Must("systemctl", "daemon-reload")
	m.Must("dpkg", "--purge", "dbtofile")
}
