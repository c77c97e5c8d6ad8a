package lab_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// TestRefused offers what must not be deployed, and requires that dbtofile runs on.
func TestRefused(t *testing.T) {
	t.Parallel()
	m := boot(t, "mount -t tmpfs -o size=80m,mode=755 tmpfs /opt/dbtofile/releases")
	starts := m.Show("dbtofile", "InvocationID")
	m.publish("7.40.0", []byte("older"))
	m.update(0, "up to date") // there is no way to an older one, signed or not
	require.Equal(t, starts, m.Show("dbtofile", "InvocationID"))
	require.Equal(t, first, m.Must("ls", "/opt/dbtofile/releases"))
	m.publish(version(1), good(t, version(1)))
	old, oldSignature := m.read(index.Name), m.read(index.Signature)
	m.sign()
	refused := func(want string) {
		t.Helper()
		m.update(1, want)
		require.Equal(t, starts, m.Show("dbtofile", "InvocationID"))
		require.Equal(t, first, m.Must("ls", "/opt/dbtofile/releases"))
		m.tidy()
	}
	spoil := func(name string) (mend func()) {
		text := m.read(name)
		changed := append([]byte{}, text...)
		changed[len(changed)/2] ^= 1
		m.write(name, changed)
		return func() { m.write(name, text) }
	}

	mend := spoil(version(1))
	refused("it has not the SHA-256")
	mend()
	mend = spoil(index.Name)
	refused("not signed by a trusted key")
	mend()
	mend = spoil(index.Signature)
	refused("not signed by a trusted key")
	mend()

	m.Must("mv", "/etc/dbtofile/keys", "/etc/dbtofile/keys.away")
	m.Must("mkdir", "/etc/dbtofile/keys")
	refused("no key is trusted")
	m.Must("rmdir", "/etc/dbtofile/keys")
	m.Must("mv", "/etc/dbtofile/keys.away", "/etc/dbtofile/keys")
	require.Contains(t, m.Must("journalctl", "--unit=dbtofile-update", "--priority=err", "--output=cat"), "no key is trusted")
	require.NotContains(t, m.Must("journalctl", "--unit=dbtofile-update", "--priority=err", "--output=cat"), "up to date")

	file, signature := m.read(index.Name), m.read(index.Signature)
	m.write(index.Name, old)
	m.write(index.Signature, oldSignature)
	refused("older than one seen before")
	m.write(index.Name, file)
	m.write(index.Signature, signature)

	m.index.Expires = time.Now().Add(-time.Second)
	m.sign()
	refused("the index expired at")
	m.index.Expires = time.Now().Add(time.Hour)
	m.sign()

	for _, name := range []string{index.Name, index.Signature, version(1)} {
		m.mode("missing " + name)
		refused("404")
	}
	m.mode("truncated " + version(1))
	refused("unexpected EOF")
	m.mode("truncated " + index.Name)
	refused("unexpected EOF")
	m.mode("slow " + version(1))
	refused("the download is too slow")
	m.mode("")

	// No room, as seen before anything is downloaded.
	m.Must("truncate", "--size=0", "/opt/dbtofile/releases/filler")
	m.Must("fallocate", "--length=20M", "/opt/dbtofile/releases/filler")
	m.update(1, "no room for release "+version(1))
	m.tidy()
	m.Must("rm", "/opt/dbtofile/releases/filler")

	// And a disk that fills up in the middle of the download.
	m.Write("/etc/dbtofile/update.env", settings+"DBTOFILE_UPDATE_STALL=1m\n")
	m.mode("halted " + version(1))
	before := m.said()
	m.Must("systemctl", "start", "--no-block", "dbtofile-update")
	m.Eventually("a half is here", func() bool {
		return m.Must("find", "/opt/dbtofile/releases/", "-path", "*.tmp-*/dbtofile", "-size", "+8M") != ""
	})
	_, err := m.Run(within(t), "dd", "if=/dev/zero", "of=/opt/dbtofile/releases/filler", "bs=1M")
	require.ErrorContains(t, err, "No space left")
	m.mode("")
	m.Eventually("it has ended", func() bool { return m.Show("dbtofile-update", "ActiveState") == "failed" })
	m.ended(before, 1, "no space left on device")
	m.tidy()
	require.Equal(t, starts, m.Show("dbtofile", "InvocationID"))
	m.Must("rm", "/opt/dbtofile/releases/filler")

	m.update(0, "msg=deployed")
	m.runs(version(1))
	require.NotEqual(t, "0", m.metric("failures_total"))
	m.tidy()
	m.noneLost()
}
