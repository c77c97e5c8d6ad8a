package main_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/systemdlab"
)

// The test queries a real journal, as an operator does.
func TestJournalctlFindsProblems(t *testing.T) {
	t.Parallel()
	lab := systemdlab.Boot(t)
	program, err := os.ReadFile(binary)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(lab.Dir(), "dbtofile"), program, 0o755))
	lab.Unit("dbtofile@.service", "[Service]\nExecStart=/opt/lab/dbtofile -dsn postgres://ada:"+strings.ReplaceAll(escaped, "%", "%%")+
		"@127.0.0.1:1/shop -table orders -key id -out /var/lib/%i -log-format %i\n")
	lab.Unit("wrong.service", "[Service]\nExecStart=/opt/lab/dbtofile -table orders\n")
	// Filter by identifier, which belongs to the stream: the journal looks the name of the process
	// up later, when it may have ended.
	warnings := func(unit string) string {
		return lab.Must("journalctl", "--unit="+unit, "--priority=warning", "--output=cat", "--identifier=dbtofile")
	}
	for format, want := range map[string]map[string]string{
		"text": {"6": `^level=INFO msg=started pipeline=orders `, "4": `^level=WARN msg="failing, will retry" pipeline=orders op=fetch `},
		"json": {"6": `^{"level":"INFO","msg":"started","pipeline":"orders",`, "4": `^{"level":"WARN","msg":"failing, will retry","pipeline":"orders","op":"fetch",`},
	} {
		unit := "dbtofile@" + format
		lab.Must("systemctl", "start", unit)
		lab.Eventually("it logs the failure", func() bool { return warnings(unit) != "" })
		require.Regexp(t, want["4"], warnings(unit))
		require.NotContains(t, warnings(unit), "started")
		got := map[string]string{}
		for _, e := range lab.Journal(unit) {
			if e.Fields["SYSLOG_IDENTIFIER"] == "dbtofile" && got[e.Fields["PRIORITY"]] == "" {
				got[e.Fields["PRIORITY"]] = e.Message
			}
		}
		require.Equal(t, []string{"4", "6"}, slices.Sorted(maps.Keys(got)))
		for priority, line := range got {
			require.Regexp(t, want[priority], line, "the prefix is removed")
			require.NotContains(t, line, "hunter2")
		}
	}

	lab.Must("systemctl", "start", "wrong")
	lab.Eventually("it has ended", func() bool { return lab.Show("wrong", "ActiveState") == "failed" })
	lab.Must("journalctl", "--sync")
	require.Regexp(t, "^dbtofile: -dsn or -dsn-file is missing", lab.Must("journalctl", "--unit=wrong", "--priority=err", "--output=cat", "--identifier=dbtofile"))
}
