// Package lab_test runs the updater as its unit in a real systemd, with the real dbtofile, a
// database that grows, and a server of releases.
package lab_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

// machine is a lab with dbtofile, its updater, a database that grows, and a server of releases.
type machine struct {
	*systemdlab.Lab
	t      *testing.T
	key    minisign.PrivateKey
	index  index.Index
	db     *sqlx.DB
	public string // directory of the server
}

// Settings of dbtofile: fast, and for a database that is a file in the shared directory.
const (
	dbtofileEnv = "DBTOFILE_TABLE=orders\nDBTOFILE_KEY=id\nDBTOFILE_INTERVAL=100ms\nDBTOFILE_LISTEN=:9464\n"
	dropIn      = "[Service]\nReadWritePaths=/opt/lab\n"
)

// settings are those of the updater, with a short time to prove well, and much of it in
// which a busy machine may take that.
const settings = `DBTOFILE_UPDATE_SOURCE=http://127.0.0.1:8000
DBTOFILE_UPDATE_SETTLE=1s
DBTOFILE_UPDATE_GATE=1m
DBTOFILE_UPDATE_STALL=10s
DBTOFILE_UPDATE_KEEP=1
DBTOFILE_UPDATE_LOG_LEVEL=debug
`

// impatient has less of that time, for releases that make use of all of it.
const impatient = settings + "DBTOFILE_UPDATE_GATE=20s\n"

// boot boots a machine. The commands are run before anything is installed.
func boot(t *testing.T, commands ...string) *machine {
	lab := systemdlab.Boot(t)
	m := &machine{Lab: lab, t: t, public: filepath.Join(lab.Dir(), "public")}
	require.NoError(t, os.Chmod(lab.Dir(), 0o777), "dbtofile is another user")
	require.NoError(t, os.Mkdir(m.public, 0o755))
	m.index = index.Index{Format: index.Format, Expires: time.Now().Add(time.Hour)}
	var err error
	var public minisign.PublicKey
	public, m.key, err = minisign.GenerateKey(nil)
	require.NoError(t, err)
	text, err := public.MarshalText()
	require.NoError(t, err)

	m.Write("/etc/dbtofile/keys/test.pub", string(text))
	m.Write("/etc/dbtofile/update.env", settings)
	m.Must("mkdir", "-p", "/opt/dbtofile/releases")
	for _, command := range commands {
		m.Must("sh", "-c", command)
	}
	m.Must("mkdir", "-p", "/opt/dbtofile/releases/"+first, "/opt/lab/bin", "/var/lib/prometheus/node-exporter")
	for name, to := range map[string]string{
		"dbtofile": "/opt/dbtofile/releases/" + first + "/dbtofile", "dbtofile-update": "/usr/sbin/dbtofile-update",
		"server": "/opt/lab/bin/server", "dbtofile-update-killed": "/opt/lab/bin/dbtofile-update-killed",
	} {
		text, err := os.ReadFile(program(t, name))
		require.NoError(t, err)
		m.put(to, text)
	}
	m.Must("ln", "-s", "releases/"+first, "/opt/dbtofile/current")

	m.db, err = sqlx.Open("sqlite3", "file:"+filepath.Join(lab.Dir(), "shop.db")+"?_pragma=busy_timeout(60000)&_pragma=synchronous(off)&_txlock=immediate")
	require.NoError(t, err)
	t.Cleanup(func() { m.db.Close() })
	m.db.MustExec("create table orders (id integer primary key autoincrement, note text)")
	require.NoError(t, os.Chmod(filepath.Join(lab.Dir(), "shop.db"), 0o666))
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				m.db.MustExec("insert into orders (note) values ('hello')")
			}
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })

	// By the After= systemd does not forget how the last update ended.
	const units = "/etc/systemd/system/"
	m.Write(units+"releases.service", "[Unit]\nAfter=dbtofile-update.service\n[Service]\nExecStart=/opt/lab/bin/server 127.0.0.1:8000 /opt/lab/public\n")
	for _, name := range []string{"dbtofile.service", "dbtofile-update.service", "dbtofile-update.timer", "dbtofile-update-boot.timer"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/systemd", name))
		require.NoError(t, err)
		m.Write(units+name, string(text))
	}
	m.Write(units+"dbtofile-update.service.d/lab.conf", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n")
	m.Write(units+"dbtofile.service.d/lab.conf", dropIn)
	m.Write("/etc/dbtofile/dbtofile.env", dbtofileEnv)
	m.Write("/etc/dbtofile/dsn", "sqlite:/opt/lab/shop.db\n")
	user, err := os.ReadFile("../../deploy/package/sysusers.conf")
	require.NoError(t, err)
	m.Write("/usr/lib/sysusers.d/dbtofile.conf", string(user))
	m.Must("systemd-sysusers", "dbtofile.conf")
	m.Must("systemctl", "daemon-reload")
	m.Must("systemctl", "start", "releases", "dbtofile")
	m.Eventually("dbtofile polls", func() bool { return m.polls(first) })
	return m
}

func (m *machine) put(to string, text []byte) {
	require.NoError(m.t, os.WriteFile(m.Path(to), text, 0o755))
}

// polls reports whether dbtofile of a version runs and has delivered rows.
func (m *machine) polls(version string) bool {
	said := m.status()
	return said.Version == version && said.Ready && said.Pipelines[0].Attempts == 0
}

type status struct {
	Version   string
	Ready     bool
	Pipelines []struct {
		Attempts int
		Records  int64
	}
}

func (m *machine) status() (s status) {
	text, err := m.Run(m.t.Context(), "curl", "-s", "http://127.0.0.1:9464/status")
	if err == nil {
		_ = json.Unmarshal([]byte(text), &s)
	}
	return s
}

// mode tells the server how to spoil a file.
func (m *machine) mode(text string) {
	require.NoError(m.t, os.WriteFile(filepath.Join(m.Dir(), "mode"), []byte(text), 0o644))
}

// publish adds a release, and returns when.
func (m *machine) publish(version string, binary []byte) time.Time {
	sum := sha256.Sum256(binary)
	m.write(version, binary)
	m.index.Releases = append(m.index.Releases, index.Release{
		Version: version, OS: runtime.GOOS, Arch: runtime.GOARCH, File: version, Size: int64(len(binary)), SHA256: hex.EncodeToString(sum[:]),
	})
	m.sign()
	return time.Now()
}

// sign publishes the index.
func (m *machine) sign() {
	m.index.Serial++
	file, signature, err := index.Sign(m.index, m.key)
	require.NoError(m.t, err)
	m.write(index.Name, file)
	m.write(index.Signature, signature)
}

func (m *machine) write(name string, text []byte) {
	require.NoError(m.t, os.WriteFile(filepath.Join(m.public, name), text, 0o644))
}

func (m *machine) read(name string) []byte {
	text, err := os.ReadFile(filepath.Join(m.public, name))
	require.NoError(m.t, err)
	return text
}

// update runs the updater as its unit, and requires an exit code.
func (m *machine) update(code int, want string) {
	m.t.Helper()
	before := m.said()
	_, _ = m.Run(m.t.Context(), "systemctl", "start", "dbtofile-update.service")
	m.ended(before, code, want)
}

// said returns how many lines the updater has logged.
func (m *machine) said() int { return len(m.Journal("dbtofile-update.service")) }

// ended requires how the last update has ended, and what it has said.
func (m *machine) ended(before, code int, want string) {
	m.t.Helper()
	var said strings.Builder
	for _, e := range m.Journal("dbtofile-update.service")[before:] {
		fmt.Fprintln(&said, e.Message)
	}
	require.Equal(m.t, strconv.Itoa(code), m.Show("dbtofile-update.service", "ExecMainStatus"), "%s", &said)
	require.Contains(m.t, said.String(), want)
}

// runs requires that a version is current, runs and does well.
func (m *machine) runs(version string) {
	m.t.Helper()
	require.Equal(m.t, "releases/"+version, m.Must("readlink", "/opt/dbtofile/current"))
	m.Eventually(version+" polls", func() bool { return m.polls(version) })
	exe := m.Must("readlink", "/proc/"+m.Show("dbtofile", "MainPID")+"/exe")
	require.Equal(m.t, "/opt/dbtofile/releases/"+version+"/dbtofile", exe)
}

// tidy requires that no run has left anything incomplete.
func (m *machine) tidy() {
	m.t.Helper()
	require.Empty(m.t, m.Must("find", "/opt/dbtofile", "/var/lib/dbtofile-update", "/var/lib/prometheus", "-name", "*.tmp-*"))
}

// metric returns a metric as it is written, or "".
func (m *machine) metric(name string) string {
	for line := range strings.Lines(m.Must("cat", "/var/lib/prometheus/node-exporter/dbtofile-update.prom")) {
		if value, ok := strings.CutPrefix(line, "dbtofile_update_"+name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// noneLost stops dbtofile, and requires that its files hold each row once, in order.
func (m *machine) noneLost() {
	m.t.Helper()
	before := m.status().Pipelines[0].Records
	m.Eventually("100 rows more", func() bool { s := m.status(); return len(s.Pipelines) > 0 && s.Pipelines[0].Records > before+100 })
	m.Must("systemctl", "stop", "dbtofile")
	names, err := filepath.Glob(filepath.Join(m.Path("/var/lib/dbtofile"), "orders-*"))
	require.NoError(m.t, err)
	slices.Sort(names)
	n := 0
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(m.t, err)
		for d := json.NewDecoder(f); ; {
			var row struct{ ID int }
			err := d.Decode(&row)
			if err == io.EOF {
				break
			}
			require.NoError(m.t, err)
			n++
			require.Equal(m.t, n, row.ID)
		}
		f.Close()
	}
	require.Greater(m.t, n, 100)
	m.t.Logf("%d rows, each once and in order", n)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
