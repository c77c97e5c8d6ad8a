package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/artifactofdevotion/devotion/examples/webconfig"
	"github.com/artifactofdevotion/devotion/source/recommend"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// config holds the settings. See [flags] for their meaning.
type config struct {
	dsn, dsnFile         string
	table                string
	key, columns         list
	where, query         string
	maxRowBytes          int
	out, format, name    string
	start                string
	interval, segmentAge time.Duration
	deadline, timeout    time.Duration
	deadLetter           string
	letters, replay      bool
	mustExist            bool
	batch                int
	segmentBytes         int64
	ceiling              ceiling.Ceiling // nil: auto
	once, version        bool
	check, verify, adopt bool
	rewind               string
	audit                time.Duration
	listen, webConfig    string
	logFormat            string
	logLevel             slog.Level
}

func flags(c *config) *flag.FlagSet {
	f := flag.NewFlagSet("dbtofile", flag.ContinueOnError)
	f.SetOutput(io.Discard) // report prints errors, without a DSN
	f.Usage = func() {}
	f.StringVar(&c.dsn, "dsn", "", "the database: postgres://`URL`, mysql://URL, user:password@tcp(host)/database, or sqlite:PATH")
	f.StringVar(&c.dsnFile, "dsn-file", "", "a `file` with the DSN; use it for a DSN with a password")
	f.StringVar(&c.table, "table", "", "the `table` to copy, or schema.table")
	f.Var(&c.key, "key", "the `columns` of the table's key, separated by commas; rows are copied in this order; with -once it may be left out")
	f.Var(&c.columns, "columns", "the `columns` to copy, separated by commas; default all")
	f.StringVar(&c.where, "where", "", "a `condition` in SQL for the rows to copy, in which the table is called t: t.kind = 'order'; a row for which it becomes true only after later rows were copied is missed")
	f.StringVar(&c.query, "select", "", "a `statement`, SELECT ... with any joins, whose rows are copied instead of those of -table, which is then the table that has the key")
	f.IntVar(&c.maxRowBytes, "max-row-bytes", sqlsource.DefaultMaxRowBytes, "the size in memory of the largest row; a larger one goes to -dead-letter, or ends the copy; the memory needed is about 64 MB and three times this size, with SQLite four times")
	f.StringVar(&c.out, "out", "", "the `directory` for the files, for this copy only; it is created if it does not exist")
	f.StringVar(&c.format, "format", "jsonl", "jsonl or csv")
	f.StringVar(&c.name, "name", "", "the `prefix` of the file names; default the name of the table")
	f.Func("ceiling", "how to wait for rows that commit late: auto chooses a `strategy` that misses no row (lock-fence, transaction-id, dirty-probe, single-writer or stamp); stamp=30s, grace=30s and none can miss rows and must be chosen explicitly", func(text string) (err error) {
		c.ceiling, err = builtin.ParseCeiling(text)
		return err
	})
	f.StringVar(&c.start, "start", "first", "where a new copy begins: first, latest (only future rows), or after a `key`; an existing copy continues where it was")
	f.DurationVar(&c.interval, "interval", time.Second, "how long to wait before polling for new rows")
	f.IntVar(&c.batch, "batch", 5000, "the maximum number of rows to read and write at once")
	f.DurationVar(&c.deadline, "deadline", time.Minute, "how long one attempt to read or write a batch may take")
	f.DurationVar(&c.timeout, "timeout", 0, "give up when an outage has lasted this long, also during an attempt; 0 for 5m with -once and -replay, and for never without them; -check and -verify give up at the first outage")
	f.StringVar(&c.deadLetter, "dead-letter", "", "a `directory` for rows that cannot be copied, such as one of more than -max-row-bytes; the copy continues after them; without it, such a row ends the copy")
	f.BoolVar(&c.mustExist, "must-exist", false, "refuse to begin a new copy: set it after the first start if -out or -dead-letter is on a file system that may not be mounted")
	f.BoolVar(&c.once, "once", false, "copy the existing rows, complete the last file, and exit; where no ceiling fits, or without -key, they are copied as a snapshot: any table or view, as of one moment, and only once")
	f.Int64Var(&c.segmentBytes, "segment-bytes", 64<<20, "complete a file at this size")
	f.DurationVar(&c.segmentAge, "segment-age", 5*time.Minute, "complete a file at this age, so that consumers see its rows; 0 for never")
	f.StringVar(&c.listen, "listen", "", "serve a status page, /livez, /readyz, /status and /metrics on this `address`: :9464 is reachable from this machine only, 0.0.0.0:9464 from others too")
	f.StringVar(&c.webConfig, "web.config.file", "", "a `file` with the TLS certificate and the passwords of -listen, in the format of the Prometheus exporters")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "the lowest `level` to log: debug, info, warn or error")
	f.BoolVar(&c.check, "check", false, "print whether rows can be missed, the statement and its plan, how many rows are pending and who holds them back, and exit; without -key, print by which means the table can be read, what each delivers and costs, and the statements that it needs; without -table, or with a pattern such as public.* or order%, do so for all tables; it changes nothing and can run at the same time as the copy, or without -out before the first copy")
	f.BoolVar(&c.verify, "verify", false, "compare the files with the table, up to the cursor of the copy, print how many rows are missing, extra or changed and their first keys, and exit; it changes nothing and can run at the same time as the copy")
	f.DurationVar(&c.audit, "audit", 0, "watch the table for this long, print how many rows appeared below the ceiling after the copy would have passed them, and how many a reader without a ceiling would have missed, and exit; SIGINT ends it early, with the result so far; it writes nothing and reads only keys")
	f.StringVar(&c.rewind, "rewind", "", "set the copy back to after a `key`, or to first, and exit; the next start copies the rows after it again, to new files")
	f.BoolVar(&c.adopt, "adopt", false, "let the copy continue at the same key in the database as it is now, and exit; for use after an error that the cursor belongs to another history or query")
	f.BoolVar(&c.letters, "letters", false, "list the rows in -dead-letter, and exit; it can run at the same time as the copy")
	f.BoolVar(&c.replay, "replay", false, "read the rows in -dead-letter again from the table, after a fix, write them to files in its directory replayed, and exit; it can run at the same time as the copy, and a second run continues after the first one")
	f.BoolVar(&c.version, "version", false, "print the version and exit")
	return f
}

// usage is printed without arguments, in five lines, and before the flags.
const usage = `dbtofile copies a database table to files, each row exactly once, and continues with new rows.
  dbtofile -dsn sqlite:shop.db -table orders -key id -out orders          # until stopped
  dbtofile -dsn sqlite:shop.db -table orders -key id -out orders -once    # the existing rows
Use -dsn-file FILE for a DSN with a password, such as postgres://user:password@host/database or mysql://...
All settings: dbtofile -h`

// answer is text to print instead of copying: the help or the version.
type answer string

func (a answer) Error() string { return string(a) }

// parse reads flags and environment. Its error may be an [answer].
func parse(args, environ []string) (c config, err error) {
	f := flags(&c)
	for _, entry := range environ { // first, because it is the format of all errors
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
		return c, answer(fmt.Sprintf("dbtofile %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH))
	}
	if err := fromEnvironment(f, environ, given); err != nil {
		return c, err
	}
	asked := slices.DeleteFunc(slices.Clone(actions), func(action string) bool { return !given[action] })
	switch {
	case f.NFlag() == 0:
		return c, usageError(usage)
	case given["dsn"] && given["dsn-file"]:
		return c, wrong("-dsn and -dsn-file are both given: give one")
	case len(asked) > 1:
		return c, wrong("-%s and -%s are both given: run one after the other", asked[0], asked[1])
	case given["audit"] && c.audit <= 0:
		return c, wrong("-audit is %v: want more than 0", c.audit)
	case given["rewind"] && (c.rewind == "" || c.rewind == "latest"):
		return c, wrong("-rewind is %q: want first or a key", c.rewind)
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

// actions are flags that cannot be set in the environment, where a service would
// repeat them at every start.
var actions = []string{"version", "check", "verify", "audit", "rewind", "adopt", "letters", "replay"}

// fromEnvironment sets flags that are not given from the environment, such as
// -segment-age from DBTOFILE_SEGMENT_AGE.
func fromEnvironment(f *flag.FlagSet, environ []string, given map[string]bool) error {
	names := map[string]string{} // by variable
	f.VisitAll(func(fl *flag.Flag) {
		variable := strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(fl.Name))
		if !slices.Contains(actions, fl.Name) {
			names["DBTOFILE_"+variable] = fl.Name
		}
	})
	dsnGiven := given["dsn"] || given["dsn-file"]
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		name, known := names[strings.ToUpper(variable)]
		switch {
		case !strings.HasPrefix(variable, "DBTOFILE_") || value == "" || given[name]:
		case !known:
			return wrong("%s in the environment is not a setting: correct its name or unset it", variable)
		case dsnGiven && (name == "dsn" || name == "dsn-file"): // either flag takes precedence over both variables
		default:
			if err := f.Set(name, value); err != nil {
				return wrong("%s in the environment: %s", variable, conceal(err.Error()))
			}
			given[name] = name == "dsn" || name == "dsn-file" // to notice both
		}
	}
	return nil
}

// advises reports whether -check is about the means to read tables, and not about a copy.
func (c *config) advises() bool {
	return c.check && (recommend.IsPattern(c.table) || len(c.key) == 0)
}

// complete checks the settings, applies defaults and reads the file of the DSN.
func (c *config) complete() (err error) {
	switch {
	case c.dsn == "" && c.dsnFile == "":
		return wrong("-dsn or -dsn-file is missing: which database?")
	case c.advises(): // the other settings are those of a copy
	case c.table == "":
		return wrong("-table is missing: which table?")
	case len(c.key) == 0 && !c.snapshots():
		return wrong("-key is missing: which columns are the key of the table?")
	case c.out == "" && !c.check && c.audit == 0:
		return wrong("-out is missing: which directory gets the files?")
	case c.format != "jsonl" && c.format != "csv":
		return wrong("-format is %q: want jsonl or csv", c.format)
	case c.logFormat != "text" && c.logFormat != "json":
		return wrong("-log-format is %q: want text or json", c.logFormat)
	case c.start == "":
		return wrong("-start is empty: want first, latest or a key")
	case c.interval <= 0:
		return wrong("-interval is %v: want more than 0", c.interval)
	case c.batch < 1:
		return wrong("-batch is %d: want at least 1", c.batch)
	case c.maxRowBytes < 1:
		return wrong("-max-row-bytes is %d: want at least 1", c.maxRowBytes)
	case c.deadline <= 0:
		return wrong("-deadline is %v: want more than 0", c.deadline)
	case c.timeout < 0:
		return wrong("-timeout is %v: want 0 or more", c.timeout)
	case c.deadLetter == "" && (c.letters || c.replay):
		return wrong("-dead-letter is missing: which directory has the rows?")
	case c.deadLetter != "" && filepath.Clean(c.deadLetter) == filepath.Clean(c.out):
		return wrong("-dead-letter and -out are the same directory: use two")
	case c.segmentBytes < 1:
		return wrong("-segment-bytes is %d: want at least 1", c.segmentBytes)
	case c.segmentAge < 0:
		return wrong("-segment-age is %v: want 0 or more", c.segmentAge)
	case c.webConfig != "" && c.listen == "":
		return wrong("-web.config.file is given without -listen: give both")
	}
	if (c.once || c.replay) && c.timeout == 0 {
		c.timeout = onceTimeout
	}
	c.name = cmp.Or(c.name, fileName(c.table))
	if c.listen != "" {
		if c.listen, err = listenAddress(c.listen); err != nil {
			return err
		}
	}
	if err := webconfig.Check(c.webConfig); err != nil {
		return wrong("-web.config.file %v", err)
	}
	if c.dsnFile != "" {
		if c.dsn, err = readDSN(c.dsnFile); err != nil {
			return wrong("%v", err)
		}
	}
	return nil
}

// snapshots reports whether the copy may be a snapshot.
func (c config) snapshots() bool {
	return c.once && c.action() == nil && c.start == "first" && c.ceiling == nil
}

// onceTimeout is how long -once and -replay wait for an outage to pass.
const onceTimeout = 5 * time.Minute

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]|^[.-]`)

// fileName returns the name of a table as the files have it. A table whose letters are
// not those of file names, such as таблица, gets its digest.
func fileName(table string) string {
	name := notInNames.ReplaceAllString(table, "_")
	if strings.ContainsFunc(table, func(r rune) bool { return r > unicode.MaxASCII }) {
		name = strings.Trim(name, "_")
		name = fmt.Sprintf("%.80s_%08x", cmp.Or(name, "table"), crc32.ChecksumIEEE([]byte(table)))
	}
	return fmt.Sprintf("%.100s", name)
}

// secret matches text that looks like a DSN, to recognize one given to the wrong flag,
// and neither a URL without a password, which may be a key, nor a condition for -where.
var secret = regexp.MustCompile(`(?is)\b(postgres(ql)?|mysql|mariadb):|://.*(@|password=)|@(tcp|unix)?\(|:.*@/|` + pair + `[^\s=;,&]*[\s;,&]+` + pair)

// pair matches a part of a DSN such as host=db.
const pair = `\b(host|server|source|port|user|username|user id|uid|password|pwd|dbname|database)=[^\s'"(]`

// quoted matches the parts of the arguments that package flag puts into its errors.
var quoted = regexp.MustCompile(`(?s)".*"|syntax: .*`)

func conceal(text string) string {
	return quoted.ReplaceAllStringFunc(text, func(s string) string {
		if secret.MatchString(s) {
			return "(not shown)"
		}
		return s
	})
}

// list is a flag of names separated by commas.
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

// groups are the flags in the order of the help, each group after its title.
var groups = [][]string{
	{"What to copy", "dsn", "dsn-file", "table", "key", "columns", "where", "select", "start", "ceiling"},
	{"Where to", "out", "must-exist", "name", "format", "segment-bytes", "segment-age", "dead-letter"},
	{"How", "once", "interval", "batch", "max-row-bytes", "deadline", "timeout"},
	{"Watching", "listen", "web.config.file", "log-format", "log-level"},
	{"Instead of copying", "check", "verify", "audit", "rewind", "adopt", "letters", "replay", "version"},
}

func help(f *flag.FlagSet) answer {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nEach setting can also be given in the environment, as in DBTOFILE_SEGMENT_AGE=1h; a flag takes precedence.\nThe exceptions are -check, -verify, -audit, -rewind, -adopt, -letters, -replay and -version.\n\n", usage)
	for _, group := range groups {
		fmt.Fprintf(&b, "%s:\n", group[0])
		for _, name := range group[1:] {
			one, fl := flag.NewFlagSet("", flag.ContinueOnError), f.Lookup(name)
			one.SetOutput(&b)
			one.Var(fl.Value, name, fl.Usage)
			one.Lookup(name).DefValue = fl.DefValue // the value may be a DSN
			one.PrintDefaults()
		}
		b.WriteString("\n")
	}
	b.WriteString("Exit codes: 0 done or stopped, 1 cannot continue, 2 wrong usage, 3 rows held back at the end of -once,\n4 -check: rows could be missed, or the copy cannot continue; -audit: rows were missed; -verify: rows are missing,\n5 -verify: no key is missing, but rows differ, as after updates and deletes, 6 an outage lasted longer than -timeout\n")
	return answer(b.String())
}

// release is set in released builds: go build -ldflags "-X main.release=1.2.3".
var release string

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return cmp.Or(release, info.Main.Version, "unknown")
}

// usageError reports wrong arguments or settings.
type usageError string

func (e usageError) Error() string { return string(e) }

func wrong(format string, args ...any) error {
	return usageError("dbtofile: " + fmt.Sprintf(format, args...) + " (see dbtofile -h)")
}
