//go:build linux

package systemd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

// serve is the web server of the repository: this program, inside the lab. It always sends the whole file: a test
// replaces an index within the second that its time is counted in, and apt would resume the one that it refused.
func serve() {
	files := http.FileServer(http.Dir(os.Getenv("SERVE")))
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Range", "If-Range", "If-Modified-Since"} {
			r.Header.Del(name)
		}
		files.ServeHTTP(w, r)
	})))
}

// site is a machine that runs dbtofile, with a table that grows and the repository it upgrades from.
type site struct {
	*machine
	releases releases
	public   string // the repository
	db       *sqlx.DB
	finish   func() // ends the growth
}

// quick has a version prove itself in little time, on a machine that may be busy.
const (
	quick   = "settle=1 gate=50\n"
	updater = "dbtofile-update.service"
)

func newSite(t *testing.T, r releases, installed ...release) *site {
	s := &site{machine: boot(t, t.TempDir()), releases: r}
	s.public = filepath.Join(s.Dir(), "public")
	require.NoError(t, os.Mkdir(s.public, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir(), "serve"), self, 0o755))
	// By the After= systemd does not forget how the last run ended.
	s.Unit("serve.service", "[Unit]\nAfter="+updater+"\n[Service]\nEnvironment=SERVE=/opt/lab/public\nExecStart=/opt/lab/serve\n")
	s.Must("systemctl", "start", "serve")

	// apt and dpkg read the list of installed packages at each call. This one has what dbtofile depends on.
	s.Must("bash", "-euc", `cd /var/lib/dpkg
		awk -v RS= -v ORS='\n\n' '/^Package: (apt|apt-utils|curl|gpgv|jq|systemd|util-linux)\n/' status |
			grep -vE '^(Pre-Depends|Depends|Recommends|Suggests|Breaks|Conflicts|Replaces|Enhances):' >status.new
		mv status.new status`)
	s.publish(append(installed, release{version: first})[0])
	s.Must("dpkg", "--install", "/opt/lab/public/"+debName(first))
	s.Write("/etc/dbtofile/apt/dbtofile.sources", "Types: deb\nURIs: http://127.0.0.1:8000\nSuites: ./\nSigned-By: /usr/share/keyrings/dbtofile.asc\n")
	s.Write("/etc/dbtofile/update.env", quick)
	s.Unit(updater+".d/lab.conf", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n")
	s.Must("mkdir", "-p", "/var/lib/prometheus/node-exporter")
	s.Must("sh", "-c", "rm -f /etc/apt/apt.conf.d/20packagekit /etc/apt/apt.conf.d/70debconf") // slow hooks, if this machine has them

	s.db = s.sqlite("orders")
	s.configure("", shopDSN, "DBTOFILE_TABLE=orders", "DBTOFILE_KEY=id", "DBTOFILE_INTERVAL=100ms", "DBTOFILE_LISTEN=:9464")
	s.grow()
	s.Must("systemctl", "start", service)
	s.runs(first)
	return s
}

func debName(version string) string { return "dbtofile_" + version + "_" + runtime.GOARCH + ".deb" }

// grow adds rows all the time.
func (s *site) grow() {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_, _ = s.db.Exec("insert into orders (body) values ('hello')") // the database may be locked
			}
		}
	})
	s.finish = sync.OnceFunc(func() { close(stop); done.Wait() })
	s.t.Cleanup(s.finish)
}

// lock keeps everybody from reading the database.
func (s *site) lock() (unlock func()) {
	s.t.Helper()
	conn, err := s.db.Connx(s.t.Context())
	require.NoError(s.t, err)
	_, err = conn.ExecContext(s.t.Context(), "begin exclusive")
	require.NoError(s.t, err)
	unlock = sync.OnceFunc(func() {
		_, _ = conn.ExecContext(context.Background(), "rollback")
		conn.Close()
	})
	s.t.Cleanup(unlock)
	return unlock
}

// publish adds releases to the repository.
func (s *site) publish(all ...release) {
	s.t.Helper()
	for _, rel := range all {
		s.releases.write(s.t, s.public, rel)
	}
	s.releases.run(s.t, "../apt/publish", s.public, ours)
}

// sign publishes a changed index.
func (s *site) sign(key string, change func(string) string) {
	s.t.Helper()
	plain := filepath.Join(s.t.TempDir(), "Release")
	text := s.releases.run(s.t, "gpg", "--decrypt", filepath.Join(s.public, "InRelease"))
	require.NoError(s.t, os.WriteFile(plain, []byte(change(text)), 0o644))
	s.write("InRelease", s.releases.run(s.t, "gpg", "--batch", "--local-user", key, "--output", "-", "--clearsign", plain))
}

func (s *site) read(name string) string {
	text, err := os.ReadFile(filepath.Join(s.public, name))
	require.NoError(s.t, err)
	return string(text)
}

func (s *site) write(name, text string) {
	require.NoError(s.t, os.WriteFile(filepath.Join(s.public, name), []byte(text), 0o644))
}

func (s *site) remove(name string) { require.NoError(s.t, os.Remove(filepath.Join(s.public, name))) }

func (s *site) rename(from, to string) {
	require.NoError(s.t, os.Rename(filepath.Join(s.public, from), filepath.Join(s.public, to)))
}

// update starts the unit of dbtofile-update, and requires an exit status and a text in its log.
func (s *site) update(status int, want string) {
	s.t.Helper()
	before := s.lines()
	_, _ = s.Run(s.t.Context(), "systemctl", "start", updater) // it may fail
	s.ended(before, status, want)
}

// lines returns how many lines the updater has logged.
func (s *site) lines() int { return len(s.Journal(updater)) }

// said returns what the updater has logged since.
func (s *site) said(before int) string {
	var said strings.Builder
	for _, e := range s.Journal(updater)[before:] {
		fmt.Fprintln(&said, e.Message)
	}
	return said.String()
}

func (s *site) ended(before, status int, want string) {
	s.t.Helper()
	said := s.said(before)
	require.Equal(s.t, strconv.Itoa(status), s.Show(updater, "ExecMainStatus"), said)
	require.Contains(s.t, said, want)
}

// idle reports whether the updater has ended for good.
func (s *site) idle() bool {
	return slices.Contains([]string{"inactive", "failed"}, s.Show(updater, "ActiveState"))
}

type report struct {
	Version   string
	Ready     bool
	Pipelines []struct {
		LastPoll  time.Time `json:"last_poll"`
		LastError string    `json:"last_error"`
	}
}

func (r report) failing() bool { return len(r.Pipelines) > 0 && r.Pipelines[0].LastError != "" }

func (s *site) status(port int) (st report) {
	text, err := s.Run(s.t.Context(), "curl", "-s", fmt.Sprintf("http://127.0.0.1:%d/status", port))
	if err == nil {
		_ = json.Unmarshal([]byte(text), &st)
	}
	return st
}

// answers reports whether a version is ready at a port, and has read the database.
func (s *site) answers(port int, version string) bool {
	st := s.status(port)
	return st.Version == version && st.Ready && !st.Pipelines[0].LastPoll.IsZero()
}

func (s *site) healthy(version string) bool { return s.answers(9464, version) }

// installed returns the state of the package as dpkg --list has it, and its version.
func (s *site) installed() string {
	return s.Must("dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Version}", "dbtofile")
}

// runs requires that a version is installed, and becomes healthy.
func (s *site) runs(version string) {
	s.t.Helper()
	require.Equal(s.t, "ii  "+version, s.installed())
	s.Eventually(version+" is healthy", func() bool { return s.healthy(version) })
}

// tidy requires that nothing is left of an upgrade but the package that is installed, and files that are named.
func (s *site) tidy(version string, also ...string) {
	s.t.Helper()
	files := append([]string{"apt.conf", "archives", "lists", "lock", "state"}, also...)
	slices.Sort(files)
	require.Equal(s.t, files, strings.Fields(s.Must("ls", "/var/lib/dbtofile-update")))
	require.Equal(s.t, []string{debName(version), "lock", "partial"}, strings.Fields(s.Must("ls", "/var/lib/dbtofile-update/archives")))
}

// metric returns a metric as it is written, or "".
func (s *site) metric(name string) string {
	for line := range strings.Lines(s.Must("cat", "/var/lib/prometheus/node-exporter/dbtofile-update.prom")) {
		if value, ok := strings.CutPrefix(line, "dbtofile_update_"+name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// noneLost requires that each row was copied once, in order.
func (s *site) noneLost() {
	s.t.Helper()
	s.finish()
	var n int
	require.NoError(s.t, s.db.Get(&n, "select count(*) from orders"))
	require.Greater(s.t, n, 100)
	var want strings.Builder
	for id := range n {
		fmt.Fprintf(&want, "{\"id\":%d,\"body\":\"hello\"}\n", id+1)
	}
	s.same(out, want.String())
}

// killer stands in for a program. It notes what would change something, and kills the upgrade instead of the nth of these
// commands, when told so.
const killer = `#!/bin/sh
name=${0##*/}
case "$name $*" in
mv* | rm* | cp* | sync* | find* | apt-get*\ install\ * | dpkg*\ --set-selections | dpkg*\ --unpack\ * | dpkg*\ --configure\ * | \
	dpkg-deb\ * | systemctl\ daemon-reload | systemctl\ re*)
	n=0
	[ ! -w /run/kill ] || n=$(cat /run/kill) # apt runs some as another user
	if [ "$n" -gt 0 ]; then
		echo "$name $*" >>/run/commands
		echo $((n - 1)) >/run/kill
		if [ "$n" = 1 ]; then
			/usr/bin/systemctl kill --signal=KILL dbtofile-update
			sleep infinity
		fi
	fi
	;;
esac
exec /usr/bin/$name "$@"
`

// arm puts the killer before the programs by which dbtofile-update, dpkg and the scripts of the package
// change anything, and shortens what an upgrade waits for. All upgrades run the same commands then: the package to go
// back to need not be downloaded.
func (s *site) arm() {
	s.Write("/etc/dbtofile/update.env", "settle=0 gate=50\n")
	s.Must("cp", "/opt/lab/public/"+debName(first), "/var/lib/dbtofile-update/archives")
	s.Unit(service+".d/lab.conf", "[Service]\nRestartSec=100ms\n")
	for _, name := range []string{"apt-get", "dpkg", "dpkg-deb", "systemctl", "mv", "rm", "cp", "sync", "find"} {
		s.Write("/usr/local/sbin/"+name, killer)
		s.Must("chmod", "755", "/usr/local/sbin/"+name)
	}
	s.Write("/etc/apt/apt.conf.d/99lab", `DPkg::Path "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"; Dir::Bin::dpkg "/usr/local/sbin/dpkg";`+"\n")
}

// killAt starts an upgrade that is killed instead of the nth command, if there are as many, waits for the run after it,
// which systemd starts, and returns what the updater has said, and the commands up to the nth.
func (s *site) killAt(n int) (said string, commands []string) {
	s.t.Helper()
	s.Must("rm", "-f", "/run/commands")
	s.Write("/run/kill", strconv.Itoa(n)+"\n")
	before := s.lines()
	_, _ = s.Run(s.t.Context(), "systemctl", "start", updater)
	s.Eventually("the upgrade ends", s.idle)
	said = s.said(before)
	return said, strings.Split(s.Must("cat", "/run/commands"), "\n")
}
