package logs

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// logLine is a row of the table of log lines in LOGS.md.
type logLine struct {
	message            string
	level              string
	required, optional []string
}

func (l logLine) keys() []string { return append(slices.Clone(l.required), l.optional...) }

// loggedKeys maps each type in LOGS.md to a check of a value.
var loggedKeys = map[string]func(slog.Value) bool{
	"string": kindIs(slog.KindString),
	"int":    kindIs(slog.KindInt64),
	"duration": func(v slog.Value) bool { // slog's JSON handler writes a time.Duration as nanoseconds
		_, err := time.ParseDuration(v.String())
		return v.Kind() == slog.KindString && err == nil
	},
	"time": kindIs(slog.KindTime),
	"bool": kindIs(slog.KindBool),
	"list": func(v slog.Value) bool { _, ok := v.Any().([]string); return ok },
}

func kindIs(k slog.Kind) func(slog.Value) bool {
	return func(v slog.Value) bool { return v.Kind() == k }
}

var (
	logLineRow = regexp.MustCompile("(?m)^\\| `([^`|]+)` \\| (DEBUG|INFO|WARN|ERROR) \\| ([^|]+) \\| [^|]+ \\|$")
	logKeyRow  = regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| ([a-z]+) \\| [^|]+ \\|$")
	logKey     = regexp.MustCompile("(\\[?)`([a-z]+)`")
)

// logTable parses both tables of LOGS.md.
func logTable(t *testing.T) (lines []logLine, types map[string]string) {
	text, err := os.ReadFile("../../LOGS.md")
	require.NoError(t, err)
	for _, m := range logLineRow.FindAllStringSubmatch(string(text), -1) {
		l := logLine{message: m[1], level: m[2]}
		for _, k := range logKey.FindAllStringSubmatch(m[3], -1) {
			if k[1] == "[" {
				l.optional = append(l.optional, k[2])
			} else {
				l.required = append(l.required, k[2])
			}
		}
		lines = append(lines, l)
	}
	require.Equal(t, strings.Count(string(text), "| INFO |")+strings.Count(string(text), "| WARN |")+
		strings.Count(string(text), "| ERROR |")+strings.Count(string(text), "| DEBUG |"), len(lines), "a row is not in the usual form")
	types = map[string]string{}
	for _, m := range logKeyRow.FindAllStringSubmatch(string(text), -1) {
		require.Contains(t, loggedKeys, m[2], "type of the key %s", m[1])
		types[m[1]] = m[2]
	}
	return lines, types
}

func TestEachLoggedKeyIsDescribedOnce(t *testing.T) {
	lines, types := logTable(t)
	used := map[string]bool{}
	for _, l := range lines {
		for _, k := range l.keys() {
			used[k] = true
			require.Contains(t, types, k, "the table of keys in LOGS.md lacks a key of %q", l.message)
		}
	}
	for k := range types {
		require.True(t, used[k], "no line has the key %s", k)
	}
}
