package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// behaviour is how the dbtofile of a release does in the model.
type behaviour string

const (
	good         behaviour = "good"
	slow         behaviour = "good but slow to start"
	unhurried    behaviour = "good, and a turn takes 25 s"
	rarely       behaviour = "good, and polls once an hour"
	crashes      behaviour = "crashes at start"
	neverReady   behaviour = "is never ready"
	diesLater    behaviour = "dies after it was ready"
	notPolling   behaviour = "is alive but does not poll"
	stopsPolling behaviour = "stops polling"
	wrongVersion behaviour = "says that it is another version"
	unwell       behaviour = "polls and fails"
	remembers    behaviour = "shows the last poll of its predecessor"
)

var bad = []behaviour{crashes, neverReady, diesLater, notPolling, stopsPolling, wrongVersion, unwell, remembers}

// world is a model of a machine with systemd and dbtofile, and of a source. Its
// files are real ones, its time is that of a synctest bubble.
type world struct {
	t          *testing.T
	root       string
	key        minisign.PrivateKey
	behaves    map[string]behaviour // by version
	trusted    map[string]bool      // hashes of binaries that a key has vouched for
	files      map[string][]byte    // of the source
	index      index.Index
	units      map[string]*process
	outage     bool          // of the database
	outageEnds time.Time     // zero: not by itself
	ahead      time.Duration // what the clock shows beyond that of the bubble
	pinned     bool          // the units' command is not current/dbtofile, but a release
	kill       func(n int, name string) bool
	fail       func(n int, name string) error // of a step, which is not done then
	steps      int
	dead       bool
	log        strings.Builder
	violations []string
}

// process is a unit and its process.
type process struct {
	version    string
	started    time.Time
	invocation int
	stopped    bool
	restart    time.Time // when a restart that was asked for will have been done
	pid        int
	ran        []string // all versions that ever ran
}

const (
	theUnit  = "dbtofile.service"
	otherOne = "dbtofile@b.service"
)

func newWorld(t *testing.T) *world {
	if runtime.GOOS != "linux" {
		t.Skip("the updater is for systemd, and so for Linux")
	}
	_, key, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	w := &world{
		t: t, root: memoryDir(t), key: key, behaves: map[string]behaviour{}, trusted: map[string]bool{}, files: map[string][]byte{},
		units: map[string]*process{theUnit: {}, otherOne: {}},
	}
	w.root, err = filepath.EvalSymlinks(w.root)
	require.NoError(t, err)
	for _, dir := range []string{"opt/releases", "state", "metrics"} {
		require.NoError(t, os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	w.index = index.Index{Format: index.Format, Expires: time.Now().Add(1000 * time.Hour)}
	w.install("1.0.0")
	for name := range w.units {
		w.start(name)
	}
	w.publish()
	time.Sleep(time.Minute)
	return w
}

// memoryDir returns a directory that is in memory where there is one: the model does
// not need to wait for a disk.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "dbtofile-update-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func binary(version string) []byte { return []byte("the binary of " + version) }

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// install does what the package does.
func (w *world) install(version string) {
	dir := filepath.Join(w.root, "opt/releases", version)
	require.NoError(w.t, os.Mkdir(dir, 0o755))
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "dbtofile"), binary(version), 0o755))
	w.behaves[version] = good
	w.trusted[hash(binary(version))] = true
	link := filepath.Join(w.root, "opt/current")
	_ = os.Remove(link)
	require.NoError(w.t, os.Symlink("releases/"+version, link))
}

// release adds a release to the source.
func (w *world) release(version string, b behaviour, minFrom string) {
	w.behaves[version] = b
	w.trusted[hash(binary(version))] = true
	w.files[version] = binary(version)
	w.index.Releases = append(w.index.Releases, index.Release{
		Version: version, OS: "linux", Arch: "amd64", File: version,
		Size: int64(len(binary(version))), SHA256: hash(binary(version)), MinFrom: minFrom,
	})
	w.publish()
}

func (w *world) publish() {
	w.index.Serial++
	file, signature, err := index.Sign(w.index, w.key)
	require.NoError(w.t, err)
	w.files[index.Name], w.files[index.Signature] = file, signature
}

func (w *world) open(_ context.Context, name string) (io.ReadCloser, error) {
	b, ok := w.files[name]
	if !ok {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(string(b))), nil
}

func (w *world) current() string {
	target, err := os.Readlink(filepath.Join(w.root, "opt/current"))
	require.NoError(w.t, err)
	return filepath.Base(target)
}

// start is what systemd does to start a unit.
func (w *world) start(name string) {
	p := w.units[name]
	text, err := os.ReadFile(filepath.Join(w.root, "opt/current/dbtofile"))
	if err != nil || !w.trusted[hash(text)] {
		w.violations = append(w.violations, fmt.Sprintf("unit %s runs %q: %v", name, text, err))
	}
	p.version, p.started, p.stopped, p.restart = w.current(), time.Now(), false, time.Time{}
	p.invocation++
	p.pid = 100 + p.invocation
	p.ran = append(p.ran, p.version)
}

func (w *world) stop(name string) {
	p := w.units[name]
	p.stopped, p.pid, p.restart = true, 0, time.Time{}
}

func (w *world) show(_ context.Context, name string) (unitState, error) {
	p, ok := w.units[name]
	if !ok {
		return unitState{}, fmt.Errorf("no unit %s", name)
	}
	if !p.restart.IsZero() && !time.Now().Before(p.restart) {
		w.start(name)
	}
	s := unitState{
		Active: "active", Sub: "running", PID: p.pid, Invocation: fmt.Sprint(p.invocation),
		Exe: filepath.Join(w.root, "opt/releases", p.version, "dbtofile"),
	}
	if w.pinned {
		s.Exe = filepath.Join(w.root, "opt/releases/1.0.0/dbtofile")
	}
	age := time.Since(p.started)
	switch b := w.behaves[p.version]; {
	case p.stopped:
		return unitState{Active: "inactive", Invocation: s.Invocation}, nil
	case b == crashes && age > 300*time.Millisecond:
		return unitState{Active: "activating", Sub: "auto-restart", Invocation: s.Invocation, Restarts: int(age / time.Second)}, nil
	case b == diesLater && age > 10*time.Second:
		s.Invocation += "b"
		s.Restarts = 1
	case b == neverReady, b == slow && age < 20*time.Second, b == crashes:
		s.Active, s.Sub = "activating", "start"
	}
	return s, nil
}

func (w *world) restart(_ context.Context, name string) error {
	if w.units[name].stopped {
		w.violations = append(w.violations, "a stopped unit was started")
	}
	w.units[name].restart = time.Now().Add(2 * time.Second)
	return nil
}

func (w *world) status(_ context.Context, url string) (s status, err error) {
	name := theUnit
	if strings.HasSuffix(url, ":2") {
		name = otherOne
	}
	shown, _ := w.show(context.Background(), name)
	p := w.units[name]
	if shown.PID == 0 || shown.Active != "active" {
		return s, errors.New("connection refused")
	}
	s.Version, s.Live, s.Ready, s.Now = p.version, true, true, time.Now().Add(w.ahead)
	s.Pipelines = append(s.Pipelines, struct {
		Name     string    `json:"name"`
		Words    string    `json:"words"`
		Live     bool      `json:"live"`
		Ready    bool      `json:"ready"`
		Attempts int       `json:"attempts"`
		LastPoll time.Time `json:"last_poll"`
		Interval float64   `json:"interval_seconds"`
	}{Name: "orders", Live: true, Ready: true, LastPoll: s.Now, Interval: 1})
	one := &s.Pipelines[0]
	switch b := w.behaves[p.version]; {
	case b == wrongVersion:
		s.Version = "9.9.9"
	case b == notPolling:
		one.LastPoll = time.Time{}
	case b == stopsPolling:
		one.LastPoll = p.started.Add(time.Second)
	case b == unhurried:
		turns := time.Since(p.started) / (25 * time.Second)
		one.Ready, one.LastPoll = turns > 0, p.started.Add(turns*25*time.Second)
	case b == rarely:
		one.LastPoll, one.Interval = p.started.Add(time.Second), 3600
	case b == remembers:
		one.LastPoll, one.Interval = p.started.Add(-3*time.Second), 60
	case b == unwell || w.outage && (w.outageEnds.IsZero() || time.Now().Before(w.outageEnds)):
		one.Attempts, one.Words = 3, "failing"
	}
	return s, nil
}

func (w *world) try(_ context.Context, path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && !w.trusted[hash(text)] {
		w.violations = append(w.violations, "an unverified binary was tried")
	}
	return strings.TrimPrefix(string(text), "the binary of "), err
}
