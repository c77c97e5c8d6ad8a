package lab_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKilledAtEveryStep kills an update by kill -9 after each of its steps, which is
// before the next one, and requires that the next update, as it is in production, deploys
// the release. Odd numbers are the beginnings of steps.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, start := range []int{2, 4} { // two machines, to share the steps
		t.Run(fmt.Sprint(start), func(t *testing.T) {
			t.Parallel()
			m := boot(t)
			const quick = settings + "DBTOFILE_UPDATE_SETTLE=300ms\n"
			m.Write("/etc/dbtofile/update.env", quick)
			killed := 0
			for n := 1; ; n++ {
				m.replace(version(n), good(t, version(n)))
				at := start + 4*(n-1)
				said := m.Must("sh", "-c", fmt.Sprintf("set -a; . /etc/dbtofile/update.env; KILL_AT=%d /opt/lab/bin/dbtofile-update-killed 2>/dev/null; echo $?", at))
				if said == "0" {
					m.runs(version(n))
					break
				}
				require.Equal(t, "137", said, "killed at %d", at)
				killed++
				m.update(0, "")
				m.runs(version(n))
				m.tidy()
			}
			require.Greater(t, killed, 7)
			t.Logf("killed after %d steps, and mended each time by the next run", killed)
			m.noneLost()
		})
	}
}

// TestKilledWhileItWatches kills the update that is watching the new release, and so the old
// process is gone already. The run that systemd starts then brings it to its end.
func TestKilledWhileItWatches(t *testing.T) {
	t.Parallel()
	m := boot(t)
	killed := func(release string) (before int) {
		t.Helper()
		m.Write("/etc/dbtofile/update.env", settings+"DBTOFILE_UPDATE_SETTLE=50s\nDBTOFILE_UPDATE_GATE=1m\n")
		m.Must("systemctl", "start", "--no-block", "dbtofile-update")
		m.Eventually("the new release runs", func() bool { return m.status().Version == release })
		m.Write("/etc/dbtofile/update.env", impatient)
		before = m.said()
		m.Must("systemctl", "kill", "--signal=KILL", "dbtofile-update")
		return before
	}
	const resumed = "an earlier run was ended in the middle of a deploy"

	m.publish(version(1), good(t, version(1)))
	before := killed(version(1))
	m.Eventually("it is deployed", func() bool { return m.Show("dbtofile-update", "ActiveState") == "inactive" })
	m.ended(before, 0, resumed)
	m.runs(version(1))

	m.publish(version(2), bad(t, version(2), "no-polls"))
	before = killed(version(2))
	m.Eventually("it is rolled back", func() bool { return m.Show("dbtofile-update", "ActiveState") == "failed" })
	m.ended(before, 4, resumed)
	m.runs(version(1))
	m.tidy()
	m.noneLost()
}

// replace publishes a release in place of the last one.
func (m *machine) replace(version string, binary []byte) {
	for _, r := range m.index.Releases {
		require.NoError(m.t, os.Remove(m.public+"/"+r.File))
	}
	m.index.Releases = nil
	m.publish(version, binary)
}
