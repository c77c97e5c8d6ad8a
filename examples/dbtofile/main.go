// Command dbtofile copies the rows of a database table to files, each row exactly
// once and in the order of its key, and continues with new rows until it is stopped:
//
//	dbtofile -dsn-file dsn -table orders -key id -out /var/spool/orders
//
// It reads Postgres, MySQL, MariaDB and SQLite, and writes JSON Lines or CSV.
// It is an example to copy: it only reads its settings and shows the progress,
// while the packages sqlsource, filesink and poller do the work.
//
// # Settings
//
// Run dbtofile -h for the flags. Each setting can also be given in the environment,
// as DBTOFILE_ and its name: DBTOFILE_SEGMENT_AGE=1h for -segment-age 1h. A flag
// takes precedence. Put a DSN with a password into -dsn-file or DBTOFILE_DSN, because
// other users of the machine can see the arguments of a process. A DSN is never printed.
// The file is read again at each connect, so a password can be rotated while the copy
// runs: change the file, then the password. Package dsn lists the forms of a DSN.
//
// # Output
//
// The files are DIR/NAME-<number>.jsonl or .csv. A file is complete and never changes
// again once its name no longer ends in .open; see package filesink for what you may
// do with it. The directory also stores the cursor, the key up to which rows are copied:
// however the command ended, the next start continues there. -once completes the last
// file, so that DIR/*.jsonl together are the table. Otherwise it stays open when the command
// stops: NAME-<number>.jsonl.open, until it reaches -segment-bytes or -segment-age.
//
// # Guarantee
//
// Rows are read only up to a ceiling, a key below which no transaction can still add a
// row; see package sqlsource. -ceiling auto finds the strategy that fits the table, and
// the log states the guarantee. If rows could be missed, dbtofile does not start, and
// prints the reason and what can be done. A lossy ceiling must be chosen
// explicitly, and the log warns of it.
//
// -once needs no ceiling. Where none fits, and where -key is left out, it copies a snapshot: all rows of any
// table or view as of one moment, in one transaction, whose guarantee the log states. If it is interrupted, the
// next run with -once continues after the last row, as of a later moment, and says so; rows without a key are then
// copied again if they have changed. Such a directory stays a snapshot: further runs with -once add nothing, and a
// run without it, -verify and -rewind refuse it. -replay cannot read its dead letters.
//
// dbtofile -check, with the settings of the copy, prints the guarantee, how many rows are
// pending, and whether the copy can continue from its cursor. Without -key it prints by which
// means the table can be read, what each one delivers and costs, and the statements that it
// needs; without -table, or with a pattern such as public.*, it does so for all tables. dbtofile -audit 1h, run
// while all writers are active, counts the rows that a copy would have missed, with the
// ceiling and without one. Both only read, and can run at the same time as the copy.
//
// # Verifying
//
// dbtofile -verify, with the settings of the copy, compares the files with the table, up
// to the cursor. It can run at any time, also next to the copy, and only reads. It prints
// how many rows are missing (in the table, not in the files), extra (in the files only)
// and changed, by ranges of keys, and their first keys. Package poller/verify says what
// each may mean; the exit codes are 4 and 5.
//
// # Rewinding
//
// Stop the copy first. dbtofile -rewind KEY sets the cursor to KEY. The next start copies
// the rows after it again, to new files. The complete files stay, so these rows are then
// in two files. A key that does not fit the table, or that the copy has not passed yet, is
// refused, and the cursor stays.
//
// If the database was replaced, restored from a backup or recreated, dbtofile exits and
// says what happened. If the rows up to the cursor are still the copied ones, dbtofile
// -adopt lets the copy continue at the same key in the database as it is now; otherwise
// use -rewind.
//
// # Watching
//
// On a terminal the last line shows the progress. Otherwise there are only log lines, on
// standard error. Under systemd each has the priority of its level: journalctl -u dbtofile
// -p warning shows the problems. With -log-format json each line is a JSON object, also
// the reason for the exit. poller/LOGS.md lists the lines and their keys. Logging never
// blocks the copy: lines that nobody reads are dropped and counted.
//
// With -listen :9464 it serves, over HTTP and read-only,
//
//	/         the status page
//	/status   the same as JSON
//	/livez    200, or 503 if only a restart can help
//	/readyz   200 if the last poll succeeded recently, or the copy is done, else 503
//	/metrics  metrics for Prometheus, see package poller/prometheus
//
// An address without a host, such as :9464 or 9464, is only reachable from this machine,
// and only under the names localhost and that of the machine: a proxy on this machine
// must set the Host header to localhost. The pages show how many rows there are, the
// last key, errors and who holds rows back, but nothing else of a row, and never a DSN.
// Before you listen on another address, such as 0.0.0.0:9464, set up TLS and a password
// with -web.config.file, in the format of the Prometheus exporters:
//
//	tls_server_config: {cert_file: server.crt, key_file: server.key}
//	basic_auth_users: {ada: $2y$10$...} # a bcrypt hash, as htpasswd -nB ada prints it
//
// Changes of that file and of the certificate take effect without a restart, but adding or
// removing tls_server_config does not. While it is invalid, requests fail; -check says why.
//
// # Failures
//
// An outage of the database, also at the start, or a full disk does not end dbtofile: it
// logs the error, tries again until the outage is over, and continues. -timeout limits how
// long; -once and -replay give up after 5 minutes. Everything else ends it with an error that says
// what to do, also a wrong password or a certificate that is rejected at the first
// connect; dbtofile -h lists the exit codes. -deadline limits one attempt.
//
// A row that cannot be copied, such as one of more than -max-row-bytes, ends the copy with
// its key. With -dead-letter DIR it is written to DIR instead, with its key and the reason,
// and the copy continues. dbtofile -letters lists these rows. After a fix, dbtofile -replay
// reads them from the table again and writes them to files in DIR/replayed; it ends at the
// first one that still cannot be copied. -verify reports them as missing.
//
// The first SIGTERM or SIGINT lets the batch being written finish, within 30 seconds. A
// second one ends the process at once; this loses nothing either.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // 8 % less CPU time than 100, for 7 MB more memory
	}
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // a second signal ends the process

	c, err := parse(os.Args[1:], os.Environ())
	if err == nil {
		err = run(ctx, c)
	}
	os.Exit(report(err, c.logFormat))
}

// report prints the result and returns the exit code.
func report(err error, logFormat string) int {
	var usage usageError
	var text answer
	var unsafe *ceiling.UnsafeError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &text):
		fmt.Print(text)
		return 0
	case errors.As(err, &usage):
		say(logFormat, usage.Error())
		return 2
	case errors.Is(err, errCheck):
		if errors.Unwrap(err) != nil { // errCheck alone is already printed
			say(logFormat, "dbtofile: "+err.Error())
		}
		return 4
	case errors.Is(err, errDiffers):
		return 5
	case errors.As(err, &unsafe):
		say(logFormat, "dbtofile: "+strings.TrimPrefix(unsafe.Error(), "ceiling: ")+"\nFor all findings run dbtofile -check with the same settings.")
		return 1
	}
	say(logFormat, "dbtofile: "+err.Error())
	var failed *poller.Error
	switch {
	case errors.Is(err, poller.ErrHeld):
		return 3
	case errors.As(err, &failed) && (failed.Attempts > 1 || errors.Is(err, poller.ErrTimeout)) && retry.Classify(err) == retry.Transient:
		return 6 // it was retried for as long as -timeout says
	}
	return 1
}
