// Command release publishes dbtofile for those who run dbtofile-update: it builds
// the binaries, signs the list of releases, and writes both into a directory for a
// web server, or for a disk that is carried to machines without a network.
//
//	release -keygen 2026                                              # once: 2026.key to sign with, 2026.pub to trust
//	release -dir public -key 2026.key -version 1.2.3                  # publish a release
//	release -dir public -key 2026.key                                 # sign again, before the index expires
//	release -dir public -key 2026.key -withdraw 1.2.3                 # take a release back
//
// # What it writes
//
// One binary for each platform, then index.json and index.json.minisig; see package
// index for what is in them. Each file is complete when it appears, and the index
// comes last, so that what it names is there. Older releases stay in the index and
// in the directory. The serial grows each time; it is the time in seconds at least, so that it does
// so even if the directory was lost.
//
// An index expires, after -expires: updaters believe none that is older, so that
// nobody can keep them from a release by handing out an old index for ever. Sign it again
// in time, once a week by cron for example. That takes the key, and nothing is built.
//
// # Builds
//
// The binaries are built with -trimpath, without cgo and without a mark of the clone they come
// from, so that the same source and the same Go give the same bytes, on any machine: whoever doubts a release can build it and
// compare. The settings of the machine that builds do not matter. A version is one set of bytes
// for ever; it cannot be published twice, nor withdrawn and published with other bytes.
//
// # Keys
//
// Keys are those of minisign, whose program may be used in place of -keygen and to
// check an index by hand. A key with a password needs -password-file, or the
// variable DBTOFILE_RELEASE_PASSWORD. With -keygen the new key gets that password;
// without one it has none, as with minisign -W, and the file is the secret.
//
// The index to be extended must be signed by the key that signs, or by one in
// the directory -keys. Give that to go over to another key.
//
// # Exit codes
//
// 0 done, 1 not done, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// config is what the flags say.
type config struct {
	dir, key, passwordFile, keys  string
	version, minFrom, withdraw    string
	platforms, source, keygenName string
	expires                       time.Duration
	password                      string
}

func flags(c *config) *flag.FlagSet {
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	f.StringVar(&c.dir, "dir", "", "the `directory` to publish in")
	f.StringVar(&c.key, "key", "", "the secret key `file` to sign with")
	f.StringVar(&c.passwordFile, "password-file", "", "a `file` that holds the key's password")
	f.StringVar(&c.keys, "keys", "", "a `directory` of public keys, *.pub, by which the present index may be signed too")
	f.StringVar(&c.version, "version", "", "the `version` to build and publish, such as 1.2.3; if not given, the index is only signed again")
	f.StringVar(&c.minFrom, "min-from", "", "the oldest `version` that may go to this one in one step")
	f.StringVar(&c.withdraw, "withdraw", "", "take this `version` out of the index")
	f.StringVar(&c.platforms, "platforms", "linux/amd64,linux/arm64", "the `platforms` to build for, with commas between")
	f.StringVar(&c.source, "package", "github.com/artifactofdevotion/devotion/examples/dbtofile", "the `package` to build")
	f.DurationVar(&c.expires, "expires", 30*24*time.Hour, "for how long the index may be believed")
	f.StringVar(&c.keygenName, "keygen", "", "make a key: write `NAME`.key and NAME.pub, and exit")
	return f
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	password := os.Getenv("DBTOFILE_RELEASE_PASSWORD")
	os.Unsetenv("DBTOFILE_RELEASE_PASSWORD") // not for the programs that build
	os.Exit(run(ctx, os.Args[1:], password, os.Stdout, os.Stderr))
}

// run returns the exit code.
func run(ctx context.Context, args []string, password string, out, errs io.Writer) int {
	c := config{password: password}
	f := flags(&c)
	f.SetOutput(errs)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := c.check(f.Args()); err != nil {
		fmt.Fprintf(errs, "release: %v (see release -h)\n", err)
		return 2
	}
	if err := do(ctx, c, out); err != nil {
		fmt.Fprintf(errs, "release: %v\n", err)
		return 1
	}
	return 0
}

func (c config) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is not the value of a flag", rest[0])
	case c.keygenName != "":
		return nil
	case c.dir == "":
		return errors.New("-dir is missing: where to?")
	case c.key == "":
		return errors.New("-key is missing: sign with what? -keygen makes one")
	case c.version != "" && !index.Valid(c.version):
		return fmt.Errorf("-version is %q: want one such as 1.2.3", c.version)
	case c.minFrom != "" && (!index.Valid(c.minFrom) || c.version == ""):
		return fmt.Errorf("-min-from is %q: want a version such as 1.2.3, and -version", c.minFrom)
	case c.expires <= 0:
		return fmt.Errorf("-expires is %v: want more than 0", c.expires)
	}
	return nil
}

func do(ctx context.Context, c config, out io.Writer) error {
	if c.passwordFile != "" {
		text, err := os.ReadFile(c.passwordFile)
		if err != nil {
			return err
		}
		c.password = strings.TrimRight(string(text), "\r\n")
	}
	if c.keygenName != "" {
		return keygen(c.keygenName, c.password, out)
	}
	return publish(ctx, c, out)
}
