package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// jsonLines parses standard error of a run with -log-format json, line by line.
func jsonLines(t *testing.T, p *process) (lines []map[string]any) {
	for text := range strings.Lines(p.stderr.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		at, ok := line["time"].(string)
		require.True(t, ok)
		_, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		lines = append(lines, line)
	}
	return lines
}

func TestJSONLog(t *testing.T) {
	t.Parallel()
	db, dsn := shop(t, 10)
	dir := t.TempDir()
	args := []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-once", "-log-format", "json"}
	lines := jsonLines(t, succeeds(t, args...))
	var messages []any
	for _, line := range lines {
		require.Equal(t, "INFO", line["level"])
		require.Equal(t, "orders", line["pipeline"], "%v", line)
		messages = append(messages, line["msg"])
	}
	require.Equal(t, []any{"started", "guarantee", "stopped", "file complete"}, messages)
	require.InDelta(t, 10, lines[2]["records"], 0)

	db.MustExec(`DROP TABLE orders`)
	p := run(t, nil, args...)
	require.Equal(t, 1, p.code())
	lines = jsonLines(t, p)
	last := lines[len(lines)-1]
	require.Equal(t, "ended", last["msg"])
	require.Equal(t, "ERROR", last["level"])
	require.Contains(t, last["err"], "dbtofile: poller: orders: fetch")

	p = run(t, []string{"LOG_FORMAT=json"}, "-log-format", "json", "-table", "orders")
	require.Equal(t, 2, p.code())
	require.Contains(t, jsonLines(t, p)[0]["err"], "-dsn or -dsn-file is missing")

	// In any order of the variables, and a flag takes precedence.
	p = run(t, []string{"BATCH=many", "LOG_FORMAT=json"}, "-table", "orders")
	require.Equal(t, 2, p.code())
	require.Contains(t, jsonLines(t, p)[0]["err"], "DBTOFILE_BATCH in the environment")
	p = run(t, []string{"LOG_FORMAT=json"}, "-batch", "many")
	require.Equal(t, 2, p.code())
	require.Contains(t, jsonLines(t, p)[0]["err"], "-batch")
	p = run(t, []string{"LOG_FORMAT=json"}, "-log-format", "text", "-batch", "many")
	require.Equal(t, 2, p.code())
	require.Equal(t, "dbtofile: invalid value \"many\" for flag -batch: parse error (see dbtofile -h)\n", p.stderr.String())
}

// Durations have their unit.
func TestJSONLogOfAnOutage(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "-dsn", "postgres://ada@127.0.0.1:1/shop", "-table", "orders", "-key", "id", "-out", t.TempDir(), "-log-format", "json")
	p.says("failing, will retry", 1)
	p.stopsWell()
	for _, line := range jsonLines(t, p) {
		if line["msg"] == "failing, will retry" {
			wait, err := time.ParseDuration(line["wait"].(string))
			require.NoError(t, err)
			require.Less(t, wait, time.Minute)
			require.Equal(t, "fetch", line["op"])
		}
	}
}
