package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUsageWithoutArguments(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	require.Equal(t, 2, p.code())
	require.Empty(t, p.stdout.String())
	require.Equal(t, 5, strings.Count(p.stderr.String(), "\n"), "%s", &p.stderr)
	require.Contains(t, p.stderr.String(), "dbtofile -dsn sqlite:shop.db -table orders -key id -out orders")
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	p := succeeds(t, "-h")
	source, err := os.ReadFile("config.go")
	require.NoError(t, err)
	flags := regexp.MustCompile(`f\.(?:Func\(|\w+\(&c\.\w+, )"([\w.-]+)"`).FindAllStringSubmatch(string(source), -1)
	require.Greater(t, len(flags), 30)
	for _, flag := range flags {
		require.Len(t, regexp.MustCompile(`(?m)^  -`+regexp.QuoteMeta(flag[1])+`( |$)`).FindAllString(p.stdout.String(), -1), 1, flag[1])
	}
	require.Equal(t, p.stdout.String(), succeeds(t, "-dsn", "postgres://ada:secret@db/shop", "-interval", "2s", "-h").stdout.String(), "the defaults, and no DSN")
	require.Contains(t, p.stdout.String(), "Exit codes: 0 done or stopped, 1 cannot continue, 2 wrong usage, 3 rows held back at the end of -once,\n4 -check: rows could be missed")
	require.Contains(t, p.stdout.String(), "\n5 -verify: no key is missing, but rows differ")
	require.Empty(t, p.stderr.String())

	p = succeeds(t, "-version")
	require.Regexp(t, `^dbtofile \S+ \(go1\.\S+, \w+/\w+\)\n$`, p.stdout.String())
}

// complete returns settings that work.
func complete(t *testing.T) []string {
	_, dsn := shop(t, 1)
	return []string{"-dsn", dsn, "-table", "orders", "-key", "id", "-out", filepath.Join(t.TempDir(), "out"), "-once"}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	good := complete(t)
	for want, args := range map[string][]string{
		"-dsn or -dsn-file is missing":                                         {"-table", "orders"},
		"-table is missing":                                                    good[:2],
		"-key is missing":                                                      good[:4],
		"-out is missing":                                                      good[:6],
		"flag provided but not defined: -tabel":                                {"-tabel", "orders"},
		"argument 10 is not the value of a flag":                               append(good[:9:9], "orders"),
		"-dsn and -dsn-file are both given":                                    append(good[:9:9], "-dsn-file", empty),
		"-dsn-file: open nosuchfile":                                           append(good[2:9:9], "-dsn-file", "nosuchfile"),
		"is empty":                                                             append(good[2:9:9], "-dsn-file", empty),
		`-format is "xml": want jsonl or csv`:                                  append(good[:9:9], "-format", "xml"),
		`invalid value "id," for flag -key: a name is empty`:                   append(good[:9:9], "-key", "id,"),
		`invalid value "x" for flag -interval`:                                 append(good[:9:9], "-interval", "x"),
		"-interval is 0s: want more than 0":                                    append(good[:9:9], "-interval", "0s"),
		"-batch is 0: want at least 1":                                         append(good[:9:9], "-batch", "0"),
		"-segment-bytes is 0: want at least 1":                                 append(good[:9:9], "-segment-bytes", "0"),
		"-segment-age is -1s: want 0 or more":                                  append(good[:9:9], "-segment-age", "-1s"),
		`-log-format is "xml": want text or json`:                              append(good[:9:9], "-log-format", "xml"),
		`invalid value "loud" for flag -log-level`:                             append(good[:9:9], "-log-level", "loud"),
		`invalid value "fence" for flag -ceiling: ceiling: "fence": want auto`: append(good[:9:9], "-ceiling", "fence"),
		`"lag": lag was replaced by stamp`:                                     append(good[:9:9], "-ceiling", "lag"),
		"-check and -rewind are both given":                                    append(good[:9:9], "-rewind", "1", "-check"),
		"-audit is 0s: want more than 0":                                       append(good[:9:9], "-audit", "0s"),
		"-check and -verify are both given":                                    append(good[:9:9], "-verify", "-check"),
		"-check and -audit are both given":                                     append(good[:9:9], "-audit", "1s", "-check"),
		"-rewind and -adopt are both given":                                    append(good[:9:9], "-rewind", "1", "-adopt"),
		`-rewind is "": want first or a key`:                                   append(good[:9:9], "-rewind", ""),
		`-rewind is "latest": want first or a key`:                             append(good[:9:9], "-rewind", "latest"),
		"-out is missing: which":                                               append(good[:6:6], "-adopt"),
		`-listen is "9464x": want a port, such as :9464`:                       append(good[:9:9], "-listen", "9464x"),
		`-listen is "localhost": want a port`:                                  append(good[:9:9], "-listen", "localhost"),
		`-listen is "::1": want a port`:                                        append(good[:9:9], "-listen", "::1"),
		`-listen is ":65536": want a port`:                                     append(good[:9:9], "-listen", ":65536"),
		`-listen is ":http": want a port`:                                      append(good[:9:9], "-listen", ":http"),
		`-listen is "http://localhost:80": want a port`:                        append(good[:9:9], "-listen", "http://localhost:80"),
		"-listen looks like a DSN (not shown)":                                 append(good[:9:9], "-listen", "postgres://a:b@c/d"),
		"-start is empty":                                                      append(good[:9:9], "-start", ""),
		"-start: want first, latest, or the values of a,b":                     append(good[:9:9], "-key", "a,b", "-start", "1"),
		"or the values of id,b separated by commas":                            append(good[:9:9], "-key", "id,b", "-start", "1,2\n3,4"),
		"the DSN (not shown) has an unknown format":                            append(good[2:9:9], "-dsn", "shop.db"),
		"has no path: want sqlite:PATH":                                        append(good[2:9:9], "-dsn", "sqlite:"),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			p := run(t, nil, args...)
			require.Equal(t, 2, p.code(), "%s", &p.stderr)
			require.Contains(t, p.stderr.String(), want)
			require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", &p.stderr)
		})
	}
}

func TestPermanentFailures(t *testing.T) {
	t.Parallel()
	good := slices.Delete(complete(t), 6, 8) // without -out
	blocked := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	for want, args := range map[string][]string{
		"nosuchtable":             append(good[:7:7], "-table", "nosuchtable"),
		"nosuchcolumn":            append(good[:7:7], "-columns", "nosuchcolumn"),
		"nosuchkey":               append(good[:7:7], "-key", "nosuchkey"),
		"nosuch.db: no such file": append(good[2:7:7], "-dsn", "sqlite:nosuch.db"),
		filepath.Base(blocked):    append(good[:7:7], "-out", blocked),
		`Name "../orders" is not a valid file name`: append(good[:7:7], "-name", "../orders"),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			p := run(t, []string{"OUT=" + filepath.Join(t.TempDir(), "out")}, args...)
			require.Equal(t, 1, p.code(), "%s", &p.stderr)
			last := p.stderr.String()[strings.LastIndex(p.stderr.String(), "dbtofile: "):]
			require.Contains(t, last, want)
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 3)
	for name, c := range map[string]struct {
		environ, args []string
		want          string
	}{
		"everything":                   {[]string{"DSN=" + dsn, "TABLE=orders", "KEY=id", "OUT=OUT", "ONCE=true", "COLUMNS=id", "CEILING=none"}, nil, ""},
		"flags take precedence":        {[]string{"DSN=nonsense", "TABLE=nonsense", "KEY=id", "OUT=OUT", "BATCH=x"}, []string{"-dsn", dsn, "-table", "orders", "-columns", "id", "-once", "-batch", "1"}, ""},
		"also over the other variable": {[]string{"DSN_FILE=nosuchfile", "TABLE=orders", "KEY=id", "OUT=OUT"}, []string{"-dsn", dsn, "-columns", "id", "-once"}, ""},
		"empty is not set":             {[]string{"DSN=" + dsn, "DSN_FILE=", "NAME=", "START=", "TABLE=orders", "KEY=id", "COLUMNS=id", "OUT=OUT"}, []string{"-once"}, ""},
		"a misspelled name":            {[]string{"TABEL=orders"}, nil, "DBTOFILE_TABEL in the environment is not a setting"},
		"a wrong value":                {[]string{"SEGMENT_AGE=1"}, nil, `DBTOFILE_SEGMENT_AGE in the environment: parse error`},
		"an action":                    {[]string{"REWIND=first"}, nil, "DBTOFILE_REWIND in the environment is not a setting"},
		"another action":               {[]string{"CHECK=true"}, nil, "DBTOFILE_CHECK in the environment is not a setting"},
		"an invalid address":           {[]string{"DSN=" + dsn, "TABLE=orders", "KEY=id", "OUT=OUT", "LISTEN=x"}, nil, `-listen is "x": want a port`},
		"an invalid ceiling":           {[]string{"CEILING=lag"}, nil, "DBTOFILE_CEILING in the environment: "},
		"both":                         {[]string{"DSN=" + dsn, "DSN_FILE=x"}, nil, "-dsn and -dsn-file are both given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "out")
			for i, s := range c.environ {
				if s == "OUT=OUT" {
					c.environ[i] = "OUT=" + dir
				}
			}
			p := run(t, c.environ, c.args...)
			if c.want != "" {
				require.Equal(t, 2, p.code())
				require.Contains(t, p.stderr.String(), c.want)
				return
			}
			require.Equal(t, 0, p.code(), "%s", &p.stderr)
			require.Equal(t, "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n", content(t, dir, ".jsonl"))
		})
	}
}

func TestDSNFile(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 3)
	file, dir := filepath.Join(t.TempDir(), "dsn"), filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.WriteFile(file, []byte(dsn+"\r\n"), 0o600))
	succeeds(t, "-dsn-file", file, "-table", "orders", "-key", "id", "-out", dir, "-once")
	same(t, sold(1, 3), content(t, dir, ".jsonl"))
}
