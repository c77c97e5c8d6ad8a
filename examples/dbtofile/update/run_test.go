package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// killed is what a run of the updater ends with that was killed.
type killed struct{}

// do is a step of the updater. After its death none is done, not even by a
// deferred function.
func (w *world) do(name string, f func() error) error {
	point := func() {
		if !w.dead {
			w.steps++
			w.invariants(name)
			w.dead = w.kill != nil && w.kill(w.steps, name)
		}
		if w.dead {
			panic(killed{})
		}
	}
	point()
	var err error
	if w.fail != nil {
		err = w.fail(w.steps, name)
	}
	if err == nil {
		err = f()
	}
	point()
	return err
}

// invariants must hold at every moment.
func (w *world) invariants(step string) {
	text, err := os.ReadFile(filepath.Join(w.root, "opt/current/dbtofile"))
	if err != nil || !w.trusted[hash(text)] {
		w.violations = append(w.violations, fmt.Sprintf("at %q current is %q: %v", step, text, err))
	}
	entries, _ := os.ReadDir(filepath.Join(w.root, "opt/releases"))
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join(w.root, "opt/releases", e.Name(), "dbtofile")); index.Valid(e.Name()) && (err != nil || string(text) != string(binary(e.Name()))) {
			w.violations = append(w.violations, fmt.Sprintf("at %q release %s is %q: %v", step, e.Name(), text, err))
		}
	}
}

// updater returns one with the default settings.
func (w *world) updater() *updater {
	var c config
	flags(&c)
	c.root, c.state, c.metricsDir = filepath.Join(w.root, "opt"), filepath.Join(w.root, "state"), filepath.Join(w.root, "metrics")
	c.units = units{{theUnit, "http://127.0.0.1:1"}, {otherOne, "http://127.0.0.1:2"}}
	c.os, c.arch = "linux", "amd64"
	return &updater{
		config: c, from: w, trusted: index.Keys{w.key.Public().(minisign.PublicKey)}, machine: w, step: w.do, out: &w.log,
		log: slog.New(slog.NewTextHandler(&w.log, nil)),
	}
}

// run runs the updater once. Its error is that of update, or errKilled.
func (w *world) run(options ...func(*config)) (err error) {
	u := w.updater()
	for _, o := range options {
		o(&u.config)
	}
	w.steps, w.dead = 0, false
	fmt.Fprintln(&w.log, "--- run")
	defer func() {
		if r := recover(); r != nil {
			if r != any(killed{}) {
				panic(r)
			}
			err = errKilled
		}
		w.invariants("the end")
		require.Empty(w.t, w.violations, "%s", &w.log)
	}()
	return u.update(context.Background())
}

var errKilled = errors.New("killed")

func (w *world) memory() state {
	u := w.updater()
	require.NoError(w.t, u.load())
	return u.memory
}

// runs requires that all units run a version.
func (w *world) runs(version string) {
	w.t.Helper()
	require.Equal(w.t, version, w.current(), "%s", &w.log)
	for name, p := range w.units {
		require.Equal(w.t, version, p.version, "%s\n%s", name, &w.log)
	}
}

// tidy requires that nothing incomplete is left.
func (w *world) tidy() {
	w.t.Helper()
	for _, dir := range []string{"opt", "opt/releases", "state", "metrics"} {
		entries, err := os.ReadDir(filepath.Join(w.root, dir))
		require.NoError(w.t, err)
		for _, e := range entries {
			require.NotContains(w.t, e.Name(), temporary, "%s", &w.log)
		}
	}
}

func (w *world) installed() []string {
	found, err := w.updater().installed()
	require.NoError(w.t, err)
	slices.Sort(found)
	return found
}
