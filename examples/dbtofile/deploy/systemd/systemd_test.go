//go:build linux

// Package systemd_test runs the Debian package of dbtofile in a real systemd.
//
// The units are those of the package. A drop-in shortens WatchdogSec where a test would wait for
// half a minute; RestartSec is unchanged.
package systemd_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

const (
	service = "dbtofile.service"
	out     = "/var/lib/dbtofile"
)

func TestInSystemd(t *testing.T) {
	t.Parallel()
	systemdlab.Need(t)
	packages := build(t)
	var f figures
	t.Run("", func(t *testing.T) {
		t.Run("Stuck", func(t *testing.T) { stuck(t, packages, &f) }) // the longest
		t.Run("Crashes", func(t *testing.T) { crashes(t, packages, &f) })
		t.Run("Outages", func(t *testing.T) { outages(t, packages, &f) })
		t.Run("Hangs", func(t *testing.T) { hangs(t, packages, &f) })
		t.Run("CrashLoop", func(t *testing.T) { crashLoop(t, packages) })
		t.Run("Readme", func(t *testing.T) { readme(t, packages) })
		t.Run("Package", func(t *testing.T) { packageLife(t, packages) })
	})
	t.Logf("times:\n%s", &f)
}

// crashes kills the service in several ways during a backlog, while rows arrive, upgrades it, and
// stops it during another backlog.
func crashes(t *testing.T, packages string, f *figures) {
	m := boot(t, packages)
	m.postgres()
	m.install("1.0.0")
	m.Unit(service+".d/test.conf", "[Service]\nWatchdogSec=10s\n")
	m.configure("", postgresDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_INTERVAL=50ms", "DBTOFILE_LISTEN=:9464")
	f.add("start -> ready", m.ready(service, m.at("systemctl", "start", service)))
	stopWriting := m.write()
	m.flows(out)

	for _, crash := range []struct{ signal, name string }{
		{"KILL", "kill -9 -> ready (RestartSec=2s)"},
		{"SEGV", "SEGV -> ready (RestartSec=2s)"},
		{"STOP", "SIGSTOP -> ready (WatchdogSec=10s, RestartSec=2s)"},
	} {
		m.backlog(100_000)
		m.flows(out)
		restarts := m.Show(service, "NRestarts")
		at := m.at("systemctl", "kill", "--kill-whom=main", "--signal="+crash.signal, service)
		f.add(crash.name, m.ready(service, at))
		assert.NotEqual(t, restarts, m.Show(service, "NRestarts"), crash.name)
		m.flows(out)
	}
	assert.Equal(t, "3", m.Show(service, "NRestarts"))
	m.said(service, "Watchdog timeout")
	m.said(service, "goroutine 1 ") // where it was, for whoever looks into it

	pid := m.Show(service, "MainPID")
	f.add("dpkg --install of a new version -> ready", m.ready(service, m.at("dpkg", "--install", deb("1.1.0"))))
	assert.NotEqual(t, pid, m.Show(service, "MainPID"))
	assert.Contains(t, m.Must("sh", "-c", "/proc/"+m.Show(service, "MainPID")+"/exe -version"), "dbtofile 1.1.0")
	m.flows(out)

	m.backlog(400_000)
	m.flows(out)
	m.Must("systemctl", "stop", service)
	assert.Equal(t, "success", m.Show(service, "Result"))
	assert.Equal(t, "0", m.Show(service, "ExecMainStatus"))
	assert.Contains(t, m.Show(service, "StatusText"), "stopping: orders: ")
	stopWriting()
	want := m.rows()
	require.Less(t, m.size(out), len(want), "it was to be stopped before all is copied")
	m.Must("systemctl", "start", service)
	m.same(out, want)
	assert.Equal(t, "0", m.Show(service, "NRestarts"), "of the last start")
	metrics := m.Must("bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/9464; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3`)
	assert.Contains(t, metrics, "\nprocess_start_time_seconds ", "the sandbox hides it")
}

// outages starts the service while the database is down, and later stops the database for longer
// than WatchdogSec.
func outages(t *testing.T, packages string, f *figures) {
	m := boot(t, packages)
	m.postgres()
	m.Must("systemctl", "stop", "pg")
	m.install("1.0.0")
	const watchdog = 10 * time.Second
	m.Unit(service+".d/test.conf", "[Service]\nWatchdogSec=10s\n")
	m.configure("", "postgres:///postgres?host=/run/pg&user=dbtofile", "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_INTERVAL=50ms")
	f.add("start -> ready, database down", m.ready(service, m.at("systemctl", "start", service)))
	pid := m.Show(service, "MainPID")
	failing := func() bool { return strings.Contains(m.Show(service, "StatusText"), "failing") }
	m.Eventually("systemctl status tells", failing)
	assert.Empty(t, m.files(out))
	m.Must("systemctl", "start", "pg")
	stopWriting := m.write()
	m.flows(out)

	m.Must("systemctl", "stop", "pg")
	down := time.Now()
	m.Eventually("the outage is longer than WatchdogSec, three times", func() bool { return time.Since(down) > 3*watchdog })
	m.Eventually("systemctl status tells", failing)
	m.Must("systemctl", "start", "pg")
	m.flows(out)
	stopWriting()
	m.same(out, m.rows())
	assert.Equal(t, "0", m.Show(service, "NRestarts"))
	assert.Equal(t, pid, m.Show(service, "MainPID"))
	assert.Contains(t, m.Show(service, "StatusText"), "orders: ")
}

// crashLoop makes the service exit: with 1 it is restarted after a while, and with 2, for wrong
// settings, it is not.
func crashLoop(t *testing.T, packages string) {
	m := boot(t, packages)
	m.install("1.0.0")
	db := m.sqlite("other")
	m.configure("", shopDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_INTERVAL=50ms")
	m.Must("systemctl", "start", "--no-block", service)
	m.Eventually("it is restarted again and again", func() bool {
		n, err := strconv.Atoi(m.Show(service, "NRestarts"))
		return err == nil && n >= 3
	})
	assert.Contains(t, []string{"activating", "active"}, m.Show(service, "ActiveState"), "not given up")
	m.said(service, "code=exited, status=1/")
	m.said(service, "no such table: orders")
	var last int // when systemd said so, not when the journal took it in
	for _, e := range m.Journal(service) {
		if strings.Contains(e.Message, "Main process exited") {
			µs, err := strconv.Atoi(e.Fields["_SOURCE_REALTIME_TIMESTAMP"])
			require.NoError(t, err)
			if last > 0 {
				assert.Greater(t, µs-last, 2_000_000, "RestartSec")
			}
			last = µs
		}
	}
	// Once the database is fixed, the service continues without being told.
	db.MustExec("create table orders (id integer primary key autoincrement, body text)")
	db.MustExec("insert into orders (body) values ('a'), ('b')")
	m.same(out, "{\"id\":1,\"body\":\"a\"}\n{\"id\":2,\"body\":\"b\"}\n")

	m.configure("", shopDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_BATCH=many")
	_, err := m.Run(t.Context(), "systemctl", "restart", service)
	require.Error(t, err)
	assert.Equal(t, "failed", m.Show(service, "ActiveState"))
	assert.Equal(t, "2", m.Show(service, "ExecMainStatus"))
	m.said(service, "DBTOFILE_BATCH")
	m.configure("", shopDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id")
	m.Must("systemctl", "restart", service)
}

// readme runs the commands of README.md in order, with a correct DSN.
func readme(t *testing.T, packages string) {
	m := boot(t, packages)
	m.postgres()
	m.backlog(100)
	m.psql("create table customers (id bigserial primary key, body text)")
	m.psql("insert into customers select * from orders; grant select on customers to dbtofile")
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var script strings.Builder
	for i, block := range strings.Split(string(text), "```") {
		if commands, is := strings.CutPrefix(block, "sh\n"); is && i%2 == 1 {
			script.WriteString(commands)
		}
	}
	require.Contains(t, script.String(), "postgres://user:password@host/database")
	m.Write("/root/commands", "set -eux\n"+strings.NewReplacer(
		"examples/dbtofile/deploy/package/build 1.0.0 .", "cp "+deb("1.0.0")+" dbtofile_1.0.0_amd64.deb", // no Go here
		"postgres://user:password@host/database", postgresDSN,
	).Replace(script.String()))
	m.Write("/usr/bin/sudo", "#!/bin/sh\nexec \"$@\"\n")
	m.Must("chmod", "755", "/usr/bin/sudo")
	t.Log(m.Must("sh", "-c", "cd /root && bash commands 2>&1"))
	m.same(out, m.rows())
	m.same(out+"/customers", m.rows())
}

// units requires that systemd finds no fault in the units.
func units(t *testing.T, m *machine) {
	var paths []string
	for _, pattern := range []string{"*.service", "*.timer"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range found {
			paths = append(paths, "/usr/lib/systemd/system/"+name)
		}
	}
	require.NotEmpty(t, paths)
	assert.Empty(t, m.Must("sh", "-c", "systemd-analyze verify "+strings.Join(paths, " ")+" 2>&1"))
	for _, name := range []string{"dbtofile.service", "dbtofile@.service"} {
		report, err := m.Run(t.Context(), "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=10", "/usr/lib/systemd/system/"+name)
		require.NoError(t, err, report)
		lines := strings.Split(strings.TrimSpace(report), "\n")
		t.Logf("%s", lines[len(lines)-1])
	}
}

// The template must differ from the unit only in what belongs to an instance.
func TestTheTemplateIsTheSame(t *testing.T) {
	settings := func(path string) (lines []string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			if line != "\n" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	one, many := settings("dbtofile.service"), settings("dbtofile@.service")
	require.Len(t, many, len(one))
	own := strings.NewReplacer("dbtofile %i:", "dbtofile:", "/%i.dsn", "/dsn", "/%i.env", "/dbtofile.env", "/%i", "")
	for i, line := range many {
		assert.Equal(t, one[i], own.Replace(line))
	}
}
