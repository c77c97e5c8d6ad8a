package lab_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGoodAndBadReleases deploys releases of all kinds, and counts the rows after it.
func TestGoodAndBadReleases(t *testing.T) {
	t.Parallel()
	m := boot(t)

	published := m.publish(version(1), good(t, version(1)))
	m.update(0, "msg=deployed")
	t.Logf("published to deployed: %v, of which 1s is -settle", time.Since(published).Round(time.Millisecond))
	m.runs(version(1))
	require.Equal(t, "1", m.metric(`info{version="`+version(1)+`"}`))
	m.update(0, "up to date")

	m.Write("/etc/dbtofile/update.env", impatient)
	for i, fault := range []string{"crash", "dies", "no-polls", "never-ready"} {
		published := m.publish(version(2+i), bad(t, version(2+i), fault))
		m.update(4, "rolled back")
		t.Logf("%s: published to rolled back: %v, of which 1s is -settle", fault, time.Since(published).Round(time.Millisecond))
		m.runs(version(1))
		m.update(0, "up to date")
	}
	require.Equal(t, "4", m.metric("rollbacks_total"))
	require.Equal(t, "4", m.metric("quarantined_releases"))
	m.tidy()

	m.publish(version(9), good(t, version(9)))
	m.Unit("dbtofile-update.timer.d/lab.conf", "[Timer]\nOnCalendar=\nOnActiveSec=0\nRandomizedDelaySec=0\n")
	m.Must("systemctl", "start", "dbtofile-update.timer")
	m.Eventually("the timer fires", func() bool { return m.polls(version(9)) && m.Show("dbtofile-update", "ActiveState") == "inactive" })
	require.Equal(t, "0", m.metric("quarantined_releases"))
	m.runs(version(9))
	m.tidy()
	m.noneLost()
}

// TestDatabaseDown holds the database's lock, so that nobody else can read it.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	m := boot(t)
	starts := m.Show("dbtofile", "InvocationID")
	m.publish(version(1), good(t, version(1)))

	down, err := m.db.Connx(within(t))
	require.NoError(t, err)
	defer down.Close()
	_, err = down.ExecContext(t.Context(), "begin exclusive")
	require.NoError(t, err)
	m.Eventually("dbtofile fails to read", func() bool { s := m.status(); return len(s.Pipelines) > 0 && s.Pipelines[0].Attempts > 0 })
	m.update(3, "is not well")
	require.Equal(t, starts, m.Show("dbtofile", "InvocationID"), "it is left alone")
	require.Equal(t, "1", m.metric("deferrals_total"))
	require.Equal(t, "1", m.metric("pending"))

	_, err = down.ExecContext(t.Context(), "rollback")
	require.NoError(t, err)
	m.Eventually("dbtofile reads again", func() bool { return m.polls(first) })
	m.update(0, "msg=deployed")
	m.runs(version(1))

	// And stopped by hand it stays stopped.
	m.Must("systemctl", "stop", "dbtofile")
	m.publish(version(2), good(t, version(2)))
	m.update(3, "no unit is running")
	require.Equal(t, "inactive", m.Show("dbtofile", "ActiveState"))
	m.Must("sh", "-c", "cd /etc/systemd/system && mv dbtofile.service kept && ln -s /dev/null dbtofile.service && systemctl daemon-reload")
	m.update(3, "no unit is running")
	m.Must("sh", "-c", "cd /etc/systemd/system && mv kept dbtofile.service && systemctl daemon-reload")
	m.Must("systemctl", "start", "dbtofile")
	m.Eventually("dbtofile polls", func() bool { return m.polls(version(1)) })
	m.update(0, "msg=deployed")
	m.noneLost()
}
