package main

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSettings(t *testing.T) {
	c, err := parse([]string{"-source", "/mnt", "-settle", "5s"}, []string{
		"DBTOFILE_UPDATE_SOURCE=https://example.org", "DBTOFILE_UPDATE_KEEP=7", "DBTOFILE_UPDATE_JITTER=", "HOME=/root",
		"DBTOFILE_UPDATE_UNITS=dbtofile=http://127.0.0.1:1, dbtofile@b.service=https://[::1]:2/",
	})
	require.NoError(t, err)
	assert.Equal(t, "/mnt", c.source, "the flag wins")
	assert.Equal(t, 5*time.Second, c.settle)
	assert.Equal(t, 7, c.keep)
	assert.Equal(t, units{{"dbtofile.service", "http://127.0.0.1:1"}, {"dbtofile@b.service", "https://[::1]:2"}}, c.units)

	c, err = parse([]string{"-source", "/mnt"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "dbtofile.service=http://127.0.0.1:9464", c.units.String())
}

func TestWrongSettings(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "-source is missing",
		"-source x more":                `"more" is not the value of a flag`,
		"-source x -nonsense":           "-nonsense",
		"-source x -units y":            "is not like dbtofile.service=http://127.0.0.1:9464",
		"-source x -units --y=http://h": "is not like",
		"-source x -units y=ftp://h":    "is not like",
		"-source x -check -dry-run":     "both given",
		"-unquarantine 1.2.3 -check":    "do one, and then the other",
		"-source x -keep -1":            "-keep",
		"-source x -settle 0s":          "-settle",
		"-source x -settle 5m":          "want more than -settle, 5m",
		"-source x -timeout 0s":         "-timeout",
		"-source x -stall 0s":           "-stall",
		"-source x -jitter -1s":         "-jitter",
	} {
		_, err := parse(strings.Fields(args), nil)
		require.ErrorContains(t, err, want, args)
		require.Equal(t, 2, code(err), args)
	}
	for variable, want := range map[string]string{
		"DBTOFILE_UPDATE_CHECK=true":   "is no setting",
		"DBTOFILE_UPDATE_FORCE=true":   "is no setting",
		"DBTOFILE_UPDATE_NONSENSE=x":   "is no setting",
		"DBTOFILE_UPDATE_SETTLE=never": "DBTOFILE_UPDATE_SETTLE in the environment",
	} {
		_, err := parse([]string{"-source", "x"}, []string{variable})
		require.ErrorContains(t, err, want, variable)
	}
}

func TestHelpNamesAllSettings(t *testing.T) {
	_, err := parse([]string{"-h"}, nil)
	require.Equal(t, 0, code(err))
	var c config
	flags(&c).VisitAll(func(f *flag.Flag) { require.Contains(t, err.Error(), "  -"+f.Name) })
	_, err = parse([]string{"-version"}, nil)
	require.Contains(t, err.Error(), "dbtofile-update ")
}
