package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"
)

// config is what flags and environment say. See [flags] for what each means.
type config struct {
	source              string
	keys                string
	root, state         string
	units               units
	keep                int
	settle, gate        time.Duration
	timeout, stall      time.Duration
	jitter              time.Duration
	metricsDir          string
	force               bool
	check, dryRun       bool
	unquarantine        string
	version             bool
	logLevel            slog.Level
	os, arch, userAgent string // of this program, no settings
}

func flags(c *config) *flag.FlagSet {
	f := flag.NewFlagSet("dbtofile-update", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&c.source, "source", "", "where the releases are: an https or http `URL`, or a directory")
	f.StringVar(&c.keys, "keys", "/etc/dbtofile/keys", "the `directory` of the trusted public keys, *.pub as minisign makes them")
	f.StringVar(&c.root, "root", "/opt/dbtofile", "the `directory` that holds releases and current")
	f.StringVar(&c.state, "state", "/var/lib/dbtofile-update", "the `directory` for what is to be remembered")
	c.units = units{{"dbtofile.service", "http://127.0.0.1:9464"}}
	f.Var(&c.units, "units", "the units to restart, with commas between: `NAME=URL`, the URL being what the unit's -listen serves")
	f.IntVar(&c.keep, "keep", 3, "how many releases to keep, of those that are neither running nor current")
	f.DurationVar(&c.settle, "settle", 30*time.Second, "how long a new release must do well")
	f.DurationVar(&c.gate, "gate", 3*time.Minute, "how long a new release may take to have done well for -settle")
	f.DurationVar(&c.timeout, "timeout", 15*time.Minute, "the longest that reading the index may take, and then the download of a release")
	f.DurationVar(&c.stall, "stall", 30*time.Second, "end a download that brings less than 64 KiB in this time, or no answer")
	f.DurationVar(&c.jitter, "jitter", 0, "wait for a random time up to this first, so that not all machines come at once; the timer does that by itself, cron does not")
	f.StringVar(&c.metricsDir, "metrics-dir", "/var/lib/prometheus/node-exporter", "write dbtofile-update.prom into this `directory`, if it is there, for the textfile collector of node_exporter")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "the least `level` to log: debug, info, warn or error")
	f.BoolVar(&c.force, "force", false, "deploy though no unit is running, or one that is does not do well")
	f.BoolVar(&c.check, "check", false, "print what runs, what there is and what would be done, and exit; it changes nothing")
	f.BoolVar(&c.dryRun, "dry-run", false, "download, check and try the release that would be deployed, and exit; it changes nothing")
	f.StringVar(&c.unquarantine, "unquarantine", "", "forget that a `version` was rolled back, and exit: it will be tried again")
	f.BoolVar(&c.version, "version", false, "print the version and exit")
	return f
}

// answer is what was asked for in place of work: help, or the version.
type answer string

func (a answer) Error() string { return string(a) }

// usageError says what is wrong with how the program was called.
type usageError string

func (e usageError) Error() string { return string(e) }

func wrong(format string, args ...any) error {
	return usageError("dbtofile-update: " + fmt.Sprintf(format, args...) + " (see dbtofile-update -h)")
}

// actions are flags that say what to do, and no settings: a timer that found one
// in its environment would do it at every run.
var actions = []string{"version", "check", "dry-run", "unquarantine", "force"}

// parse reads flags and environment. Its error may be an [answer].
func parse(args, environ []string) (c config, err error) {
	f := flags(&c)
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return c, help(f)
	} else if err != nil {
		return c, wrong("%v", err)
	}
	if f.NArg() > 0 {
		return c, wrong("%q is not the value of a flag", f.Arg(0))
	}
	if c.version {
		return c, answer(versionLine() + "\n")
	}
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		name, ours := strings.CutPrefix(variable, "DBTOFILE_UPDATE_")
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
		switch {
		case !ours || value == "" || given[name]:
		case f.Lookup(name) == nil || slices.Contains(actions, name):
			return c, wrong("%s in the environment is no setting", variable)
		default:
			if err := f.Set(name, value); err != nil {
				return c, wrong("%s in the environment: %v", variable, err)
			}
		}
	}
	return c, c.complete()
}

// complete checks the settings.
func (c *config) complete() error {
	switch {
	case c.source == "" && c.unquarantine == "":
		return wrong("-source is missing: where are the releases?")
	case len(c.units) == 0:
		return wrong("-units is empty: which units run dbtofile?")
	case c.check && c.dryRun:
		return wrong("-check and -dry-run are both given: do one, and then the other")
	case c.unquarantine != "" && (c.check || c.dryRun):
		return wrong("-unquarantine is given with -check or -dry-run: do one, and then the other")
	case c.keep < 0:
		return wrong("-keep is %d: want 0 or more", c.keep)
	case c.settle <= 0:
		return wrong("-settle is %v: want more than 0", c.settle)
	case c.gate <= c.settle:
		return wrong("-gate is %v: want more than -settle, %v", c.gate, c.settle)
	case c.timeout <= 0:
		return wrong("-timeout is %v: want more than 0", c.timeout)
	case c.stall <= 0:
		return wrong("-stall is %v: want more than 0", c.stall)
	case c.jitter < 0:
		return wrong("-jitter is %v: want 0 or more", c.jitter)
	}
	return nil
}

// unit is a unit of systemd that runs dbtofile, and where that serves its status.
type unit struct{ name, url string }

// units is a flag of them.
type units []unit

func (u *units) String() string {
	texts := make([]string, len(*u))
	for i, one := range *u {
		texts[i] = one.name + "=" + one.url
	}
	return strings.Join(texts, ",")
}

func (u *units) Set(text string) error {
	*u = nil
	for one := range strings.SplitSeq(text, ",") {
		name, address, _ := strings.Cut(strings.TrimSpace(one), "=")
		where, err := url.Parse(address)
		if name == "" || strings.HasPrefix(name, "-") || err != nil || where.Scheme != "http" && where.Scheme != "https" || where.Host == "" {
			return fmt.Errorf("%q is not like dbtofile.service=http://127.0.0.1:9464", one)
		}
		if !strings.Contains(name, ".") {
			name += ".service"
		}
		*u = append(*u, unit{name, strings.TrimSuffix(address, "/")})
	}
	return nil
}

func help(f *flag.FlagSet) answer {
	var b strings.Builder
	b.WriteString("dbtofile-update brings dbtofile up to date: it deploys the newest signed release, and goes back if that does not do well.\n" +
		"Each setting can be made in the environment too, as in DBTOFILE_UPDATE_SOURCE=https://example.org/dbtofile; flags win.\n" +
		"Not so -check, -dry-run, -force, -unquarantine and -version, which say what to do.\n\n")
	f.SetOutput(&b)
	f.PrintDefaults()
	b.WriteString("\nExit codes: 0 up to date or deployed, 1 error, 2 wrong usage, 3 deferred: the release that ran before runs, 4 rolled back,\n" +
		"5 another run is at work; with -check: 0 up to date, 6 a release is there to be deployed, 3 it would be deferred\n")
	return answer(b.String())
}
