//go:build linux

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// useProxy puts a proxy between the copy and the server.
func useProxy(w *world) {
	w.between = newProxy(w.t, w.server.Addr())
	w.copy.dsn = w.engine.dsn(w.database.WithAddr(w.between.address))
}

func networkFaults() []fault {
	list := []fault{
		{name: "refused", how: "the port is closed, connections are reset", times: 5, begin: func(w *world) func() {
			w.between.refuse()
			return func() { w.between.accept(w.t) }
		}},
		{name: "reset", how: "each connection is reset at its first byte", times: 5, begin: func(w *world) func() {
			w.between.set(cut)
			return func() { w.between.set(nil) }
		}},
		{name: "reset once", how: "all connections are reset, and new ones work", times: 20, quiet: 20 * time.Millisecond, begin: func(w *world) func() {
			w.between.resetAll()
			return func() {}
		}},
		{name: "answers cut", how: "each connection is reset within its answers, after about 3,000 bytes", times: 5, begin: cutAnswers},
		{name: "black hole", how: "all packets are lost, and connections stay open", times: 1, begin: func(w *world) func() {
			w.between.set(lose)
			return func() { w.between.set(nil); w.between.resetAll() }
		}},
		{name: "short black hole", how: "all packets are lost for 2 s, then connections are reset", times: 2, quiet: 2 * time.Second, begin: func(w *world) func() {
			w.between.set(lose)
			return func() { w.between.set(nil); w.between.resetAll() }
		}},
		{name: "one byte at a time", how: "each byte is a packet of its own for 2 s", times: 2, quiet: 2 * time.Second, begin: func(w *world) func() {
			w.between.setSlow(true)
			return func() { w.between.setSlow(false) }
		}},
	}
	for i := range list {
		list[i].part, list[i].on, list[i].prepare = "network", servers, useProxy
	}
	return append(list, fault{part: "network", name: "DNS gone", how: "the name vanishes from a copy of /etc/hosts, no name server answers, connections are reset",
		on: servers, times: inTurn(2, 1), prepare: useName, begin: loseName})
}

// cutAnswers cuts each connection within its answers. They get long enough by a row that
// does not fit.
func cutAnswers(w *world) func() {
	passed := 0
	w.between.set(func(_ int, up bool, data []byte) (int, bool) {
		if up {
			return len(data), false
		}
		passed += len(data)
		if passed < 3000 {
			return len(data), false
		}
		passed = 0
		return len(data) / 2, true
	})
	w.must("INSERT INTO items (note) VALUES ('" + strings.Repeat("long", 2000) + "')")
	return func() { w.between.set(nil) }
}

const hostName = "database.faults.test"

// names is the file that stands for /etc/hosts in the namespace of the test.
var names = struct {
	sync.Mutex
	path string
}{}

// useName lets the copy connect to a name that only a file of the test knows.
func useName(w *world) {
	needRoot(w.t)
	useProxy(w)
	names.Lock()
	defer names.Unlock()
	if names.path == "" {
		names.path = filepath.Join(lasting(w.t), "hosts")
		hosts, err := os.ReadFile("/etc/hosts") // other tests may look up localhost
		require.NoError(w.t, err)
		require.NoError(w.t, os.WriteFile(names.path, append(hosts, '\n'), 0o644))
		require.NoError(w.t, syscall.Mount(names.path, "/etc/hosts", "", syscall.MS_BIND, ""))
		resolver := filepath.Join(filepath.Dir(names.path), "resolv.conf")
		require.NoError(w.t, os.WriteFile(resolver, []byte("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n"), 0o644))
		require.NoError(w.t, syscall.Mount(resolver, "/etc/resolv.conf", "", syscall.MS_BIND, ""))
	}
	name := strings.ToLower(w.engine.name) + "." + hostName
	writeName(w, name, true)
	_, port, _ := strings.Cut(w.between.address, ":")
	w.copy.dsn = w.engine.dsn(w.database.WithAddr(name + ":" + port))
}

// writeName adds a name to the file of names, or removes it.
func writeName(w *world, name string, there bool) {
	text, err := os.ReadFile(names.path)
	require.NoError(w.t, err)
	entry := fmt.Sprintf("127.0.0.1 %s\n", name)
	now := strings.ReplaceAll(string(text), entry, "")
	if there {
		now += entry
	}
	require.NoError(w.t, os.WriteFile(names.path, []byte(now), 0o644))
}

// loseName resets connections until the program has forgotten the name, which it remembers
// for some seconds.
func loseName(w *world) func() {
	name := strings.ToLower(w.engine.name) + "." + hostName
	set := func(there bool) {
		names.Lock()
		defer names.Unlock()
		writeName(w, name, there)
	}
	set(false)
	w.eventually("the name is not found", func() bool {
		w.between.resetAll()
		s, ok := w.copy.status()
		return ok && s.Attempts > 0 && strings.Contains(s.LastError, "lookup "+name)
	})
	return func() { set(true) }
}
