package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// config is what flags and environment say. See [flags] for what each means.
type config struct {
	dsn, dsnFile         string
	table                string
	key, columns         list
	out, format, name    string
	start                string
	interval, segmentAge time.Duration
	batch                int
	segmentBytes         int64
	ceiling              ceilingName
	once, version        bool
	check, adopt         bool
	rewind               string
	audit                time.Duration
	listen               string
	logFormat            string
	logLevel             slog.Level
}

func flags(c *config) *flag.FlagSet {
	f := flag.NewFlagSet("dbtofile", flag.ContinueOnError)
	f.SetOutput(io.Discard) // messages go through report, and never show a DSN
	f.Usage = func() {}
	f.StringVar(&c.dsn, "dsn", "", "the database: postgres://`URL`, mysql://URL, user:password@tcp(host)/database, or sqlite:PATH")
	f.StringVar(&c.dsnFile, "dsn-file", "", "a `file` that holds the DSN; better for one with a password")
	f.StringVar(&c.table, "table", "", "the `table` to copy, schema.table if need be")
	f.Var(&c.key, "key", "its key `columns` in order, with commas between; the rows come in this order")
	f.Var(&c.columns, "columns", "the `columns` to copy, with commas between; all if not given")
	f.StringVar(&c.out, "out", "", "the `directory` for the files; it is made if need be, and belongs to this copy alone")
	f.StringVar(&c.format, "format", "jsonl", "jsonl or csv")
	f.StringVar(&c.name, "name", "", "what the names of the files begin with; the table's `name` if not given")
	f.Var(&c.ceiling, "ceiling", "how rows that commit late are waited for: auto takes the `strategy` that misses none, by name lock-fence, transaction-id, dirty-probe, single-writer or stamp; lossy, and so only by name: lag=5m, grace=30s, none")
	f.StringVar(&c.start, "start", "first", "where a new copy begins: first, latest (only rows still to come), or the `key` after which; a copy once begun goes on where it was")
	f.DurationVar(&c.interval, "interval", time.Second, "how long to wait before looking for new rows")
	f.IntVar(&c.batch, "batch", 5000, "the most rows to read and write at once")
	f.BoolVar(&c.once, "once", false, "copy what is there, complete the last file, and exit")
	f.Int64Var(&c.segmentBytes, "segment-bytes", 64<<20, "complete a file at this size")
	f.DurationVar(&c.segmentAge, "segment-age", 5*time.Minute, "complete a file at this age, so that consumers see its rows; 0 means never")
	f.StringVar(&c.listen, "listen", "", "serve a status page, /livez, /readyz, /status and /metrics at this `address`: :9464 is for this machine alone, 0.0.0.0:9464 for all who can reach it")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "the least `level` to log: debug, info, warn or error")
	f.BoolVar(&c.check, "check", false, "print whether rows can be missed, what is read and how, how many rows are pending and who holds them back, and exit; it changes nothing, and may be run beside a running copy, or without -out before there is one")
	f.DurationVar(&c.audit, "audit", 0, "watch the table for this long, print how many rows the copy would have missed below its ceiling, and how many without one, and exit; it writes nothing and reads keys only")
	f.StringVar(&c.rewind, "rewind", "", "set the copy back to behind a `key`, or to first, and exit: the rows that follow are copied again, to new files")
	f.BoolVar(&c.adopt, "adopt", false, "have the copy go on at the same key in the database as it is now, and exit: after an error that says that the cursor is of another history, or of another query")
	f.BoolVar(&c.version, "version", false, "print the version and exit")
	return f
}

const start5 = `dbtofile copies a database table to files, each row exactly once, and goes on with rows that are added.
  dbtofile -dsn sqlite:shop.db -table orders -key id -out orders          # until stopped
  dbtofile -dsn sqlite:shop.db -table orders -key id -out orders -once    # what is there now
Use -dsn-file FILE for a DSN with a password, such as postgres://user:password@host/database or mysql://...
All settings: dbtofile -h`

// answer is what was asked for in place of work: help, or the version.
type answer string

func (a answer) Error() string { return string(a) }

// parse reads flags and environment. Its error may be an [answer].
func parse(args, environ []string) (c config, err error) {
	f := flags(&c)
	for _, entry := range environ { // first of all, for how to say what is wrong with others
		if format, ok := strings.CutPrefix(entry, "DBTOFILE_LOG_FORMAT="); ok && format != "" {
			c.logFormat = format
		}
	}
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return c, help(f)
	} else if err != nil {
		return c, wrong("%s", conceal(err.Error()))
	}
	if f.NArg() > 0 {
		return c, wrong("argument %d is not the value of a flag", len(args)-f.NArg()+1)
	}
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	if c.version {
		return c, answer(versionLine() + "\n")
	}
	if err := fromEnvironment(f, environ, given); err != nil {
		return c, err
	}
	if f.NFlag() == 0 {
		return c, usageError(start5)
	}
	if given["dsn"] && given["dsn-file"] {
		return c, wrong("-dsn and -dsn-file are both given")
	}
	if first, second := two(given, "check", "audit", "rewind", "adopt"); second != "" {
		return c, wrong("-%s and -%s are both given: do one, and then the other", first, second)
	}
	if given["audit"] && c.audit <= 0 {
		return c, wrong("-audit is %v: want more than 0", c.audit)
	}
	if given["rewind"] && (c.rewind == "" || c.rewind == "latest") {
		return c, wrong("-rewind is %q: want first, or a key", c.rewind)
	}
	f.VisitAll(func(fl *flag.Flag) {
		if err == nil && fl.Name != "dsn" && secret.MatchString(fl.Value.String()) {
			err = wrong("-%s looks like a DSN (not shown)", fl.Name)
		}
	})
	if err != nil {
		return c, err
	}
	return c, c.complete()
}

// actions are flags that say what to do, and no settings: a service that found
// one in its environment would do it at every start.
var actions = []string{"version", "check", "audit", "rewind", "adopt"}

// fromEnvironment sets the flags that are not given from variables such as
// DBTOFILE_SEGMENT_AGE.
func fromEnvironment(f *flag.FlagSet, environ []string, given map[string]bool) error {
	const prefix = "DBTOFILE_"
	dsnGiven := given["dsn"] || given["dsn-file"]
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		name, ours := strings.CutPrefix(variable, prefix)
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
		switch {
		case !ours || value == "" || given[name]:
		case f.Lookup(name) == nil || slices.Contains(actions, name):
			return wrong("%s in the environment is no setting", variable)
		case dsnGiven && (name == "dsn" || name == "dsn-file"): // either flag wins over both variables
		default:
			if err := f.Set(name, value); err != nil {
				return wrong("%s in the environment: %s", variable, conceal(err.Error()))
			}
			given[name] = name == "dsn" || name == "dsn-file" // to find both
		}
	}
	return nil
}

// complete checks the settings and reads the DSN's file.
func (c *config) complete() error {
	switch {
	case c.dsn == "" && c.dsnFile == "":
		return wrong("-dsn or -dsn-file is missing: which database?")
	case c.table == "":
		return wrong("-table is missing: which table?")
	case len(c.key) == 0:
		return wrong("-key is missing: which columns are the table's key?")
	case c.out == "" && !c.check && c.audit == 0:
		return wrong("-out is missing: which directory is for the files?")
	case c.format != "jsonl" && c.format != "csv":
		return wrong("-format is %q: want jsonl or csv", c.format)
	case c.logFormat != "text" && c.logFormat != "json":
		return wrong("-log-format is %q: want text or json", c.logFormat)
	case c.start == "":
		return wrong("-start is empty: want first, latest, or a key")
	case c.interval <= 0:
		return wrong("-interval is %v: want more than 0", c.interval)
	case c.batch < 1:
		return wrong("-batch is %d: want at least 1", c.batch)
	case c.segmentBytes < 1:
		return wrong("-segment-bytes is %d: want at least 1", c.segmentBytes)
	case c.segmentAge < 0:
		return wrong("-segment-age is %v: want 0 or more", c.segmentAge)
	}
	if c.listen != "" {
		var err error
		if c.listen, err = listenAddress(c.listen); err != nil {
			return err
		}
	}
	c.name = cmp.Or(c.name, notInNames.ReplaceAllString(c.table, "_"))
	if c.dsnFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.dsnFile)
	if err != nil {
		return wrong("-dsn-file: %v", err)
	}
	if c.dsn = strings.TrimSpace(string(text)); c.dsn == "" {
		return wrong("-dsn-file: %s is empty", c.dsnFile)
	}
	return nil
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]|^[.-]`)

// secret matches what is a DSN by its looks, though in the wrong place. A URL
// without a user or a password is none: it may well be a key to start after.
var secret = regexp.MustCompile(`(?is)\b(postgres(ql)?|mysql|mariadb):|://.*(@|password=)|@(tcp|unix)?\(|:.*@/`)

// quoted matches what package flag shows of the arguments in its errors.
var quoted = regexp.MustCompile(`(?s)".*"|syntax: .*`)

func conceal(text string) string {
	return quoted.ReplaceAllStringFunc(text, func(s string) string {
		if secret.MatchString(s) {
			return "(not shown)"
		}
		return s
	})
}

// two returns two of the names that are given, if there are as many.
func two(given map[string]bool, names ...string) (first, second string) {
	for _, name := range names {
		switch {
		case !given[name]:
		case first == "":
			first = name
		default:
			return first, name
		}
	}
	return first, ""
}

// ceilingName is a flag that names a ceiling.
type ceilingName struct{ ceiling.Ceiling }

func (n *ceilingName) String() string {
	if n.Ceiling == nil {
		return "auto"
	}
	return n.Ceiling.String()
}

func (n *ceilingName) Set(text string) error {
	c, err := builtin.ParseCeiling(text)
	if err == nil {
		n.Ceiling = c
	}
	return err
}

// list is a flag of names with commas between.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	*l = strings.Split(text, ",")
	for i, name := range *l {
		if (*l)[i] = strings.TrimSpace(name); (*l)[i] == "" {
			return errors.New("a name is empty")
		}
	}
	return nil
}

func help(f *flag.FlagSet) answer {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nEach can be set in the environment too, as in DBTOFILE_SEGMENT_AGE=1h; flags win.\nNot so -check, -audit, -rewind, -adopt and -version, which say what to do.\n\n", start5)
	f.SetOutput(&b)
	f.PrintDefaults()
	b.WriteString("\nExit codes: 0 done or stopped, 1 cannot go on, 2 wrong usage, 3 rows held back at the end of -once,\n4 -check: rows could be missed, or the copy cannot go on; -audit: rows were missed\n")
	return answer(b.String())
}

// release is set in builds that are released: go build -ldflags "-X main.release=1.2.3".
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionLine() string {
	return fmt.Sprintf("dbtofile %s (%s, %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// usageError says what is wrong with how the program was called.
type usageError string

func (e usageError) Error() string { return string(e) }

func wrong(format string, args ...any) error {
	return usageError("dbtofile: " + fmt.Sprintf(format, args...) + " (see dbtofile -h)")
}
