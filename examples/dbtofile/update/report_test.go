package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// snapshot returns the content of all files of the machine.
func (w *world) snapshot() map[string]string {
	all := map[string]string{}
	require.NoError(w.t, filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		require.NoError(w.t, err)
		switch name := strings.TrimPrefix(path, w.root); {
		case d.Type()&fs.ModeSymlink != 0:
			all[name], err = os.Readlink(path)
		case d.Type().IsRegular() && d.Name() != "lock":
			var text []byte
			text, err = os.ReadFile(path)
			all[name] = string(text)
		case d.IsDir():
			all[name] = "directory"
		}
		return err
	}))
	return all
}

func TestCheckAndDryRunChangeNothing(t *testing.T) {
	check := func(c *config) { c.check = true }
	dryRun := func(c *config) { c.dryRun = true }
	within(t, func(t *testing.T, w *world) {
		before := w.snapshot()
		require.NoError(t, w.run(check))
		require.Contains(t, w.log.String(), "running    1.0.0\navailable  nothing newer\n")
		require.NoError(t, w.run(dryRun))
		require.Contains(t, w.log.String(), "nothing newer than 1.0.0\n")
		w.release("1.1.0", good, "")
		require.Equal(t, 6, code(w.run(check)))
		require.Contains(t, w.log.String(), "available  1.1.0\nto do      deploy 1.1.0, restart [dbtofile.service dbtofile@b.service]\n")
		require.NoError(t, w.run(dryRun))
		require.Contains(t, w.log.String(), "release 1.1.0 is complete, signed, and runs here\n")
		w.outage = true
		require.Equal(t, 3, code(w.run(check)))
		require.Contains(t, w.log.String(), "deferred   unit dbtofile.service: pipeline orders is not well: failing\n")
		require.Equal(t, 3, code(w.run(dryRun)))
		w.files["1.1.0"][0]++
		require.ErrorContains(t, w.run(dryRun), "SHA-256")
		require.Equal(t, before, w.snapshot())
	})
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", crashes, "")
		require.ErrorIs(t, w.run(), errRolledBack)
		require.NoError(t, w.run(check))
		require.Contains(t, w.log.String(), "quarantine 1.1.0 since 2000-01-01T00:01:")
		w.release("1.2.0", good, "")
		w.kill = func(_ int, step string) bool { return step == "restart" }
		require.ErrorIs(t, w.run(), errKilled)
		_ = w.run(check)
		require.Contains(t, w.log.String(), "unfinished deploy from 1.0.0 to 1.2.0")
	})
}

func TestMetrics(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", crashes, "")
		require.Error(t, w.run())
		w.release("1.2.0", good, "")
		w.outage = true
		require.Error(t, w.run())
		name := filepath.Join(w.root, "metrics", metricsFile)
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, line := range []string{
			`dbtofile_update_info{version="1.0.0"} 1`, "dbtofile_update_rollbacks_total 1", "dbtofile_update_deferrals_total 1",
			"dbtofile_update_failures_total 0", "dbtofile_update_deploys_total 0", "dbtofile_update_quarantined_releases 1", "dbtofile_update_pending 1",
			"# TYPE dbtofile_update_rollbacks_total counter", "dbtofile_update_last_check_timestamp_seconds 9.46684",
		} {
			require.Contains(t, string(text), line)
		}
		require.NotContains(t, string(text), "last_deploy")
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o644), info.Mode().Perm())

		w.outage = false
		require.NoError(t, w.run())
		text, err = os.ReadFile(name)
		require.NoError(t, err)
		for _, line := range []string{`info{version="1.2.0"} 1`, "deploys_total 1", "quarantined_releases 0", "pending 0", "last_deploy_timestamp_seconds 9.46684"} {
			require.Contains(t, string(text), line)
		}
		w.index.Expires = time.Now()
		w.publish()
		require.Error(t, w.run(func(c *config) { c.metricsDir = "" }))
		require.Error(t, w.run())
		text, err = os.ReadFile(name)
		require.NoError(t, err)
		require.Contains(t, string(text), "failures_total 2")
	})
}

func TestJitter(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		spread := map[time.Duration]bool{}
		for range 5 {
			began := time.Now()
			require.NoError(t, w.run(func(c *config) { c.jitter = time.Hour }))
			waited := time.Since(began)
			require.Less(t, waited, time.Hour)
			spread[waited] = true
		}
		require.Greater(t, len(spread), 1)
	})
}

func TestOneAtATime(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		unlock, err := w.updater().lock()
		require.NoError(t, err)
		err = w.run()
		require.ErrorIs(t, err, errLocked)
		require.Equal(t, 5, code(err))
		require.Regexp(t, `process \d+ holds`, err)
		info, err := os.Stat(filepath.Join(w.updater().config.state, "lock"))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), "who can open it can hold it")
		require.NoError(t, w.run(func(c *config) { c.check = true }))
		unlock()
		require.NoError(t, w.run())
	})
}

func TestWhatCannotBeRead(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		require.NoError(t, os.WriteFile(w.updater().stateFile(), []byte("{"), 0o644))
		require.ErrorContains(t, w.run(), "to begin anew")
		w.release("1.1.0", good, "")
		require.ErrorContains(t, w.run(func(c *config) { c.check = true }), "to begin anew")
	})
	within(t, func(t *testing.T, w *world) {
		require.NoError(t, os.Remove(filepath.Join(w.root, "opt/current")))
		require.ErrorContains(t, w.updater().update(t.Context()), "Install the package")
	})
	within(t, func(t *testing.T, w *world) {
		w.units[theUnit].version = "../elsewhere"
		require.ErrorContains(t, w.run(), "which is no release in")
	})
}
