// Command dbtofile copies the rows of a database table to files, each row
// exactly once and in the order of its key, and goes on with the rows that are
// added, until it is stopped:
//
//	dbtofile -dsn-file dsn -table orders -key id -out /var/spool/orders
//
// It reads Postgres, MySQL, MariaDB and SQLite, and writes JSON Lines or CSV.
// It is meant to be copied: all it does itself is reading its settings and
// showing how it gets on. The work is done by the packages sqlsource, filesink
// and poller.
//
// # Settings
//
// Run dbtofile -h for the flags. Each can be given in the environment as well,
// as DBTOFILE_ and its name: -segment-age 1h is DBTOFILE_SEGMENT_AGE=1h. Flags
// win. Give a DSN that holds a password by -dsn-file or DBTOFILE_DSN, since
// other users of the machine can see the arguments of a process. A DSN is never
// printed.
//
// # Output
//
// The files are DIR/NAME-<number>.jsonl or .csv. Files without .open at the end
// of their name are complete and never change again; see package filesink for
// what may be done with them. The directory also remembers how far the copy
// got: start the command again, after whatever end, and it goes on from there.
// With -once it copies what is there and completes the last file, so that the
// concatenation of DIR/*.jsonl is the table. A service that is stopped leaves
// the last file open and goes on with it at the next start.
//
// # Missing nothing
//
// Rows are read only up to a ceiling, below which no transaction can still add
// one; see package sqlsource. -ceiling auto finds the strategy that fits the table, and
// the log says what is guaranteed. Where rows could be missed dbtofile does not start,
// but prints why, and the statements that mend it. A lossy ceiling can be chosen by
// name, which the log warns of.
//
// dbtofile -check, with the settings of the copy, prints all that was found: the
// guarantee, the statement that is run and its plan, how many rows are pending, who holds
// rows back, and whether the cursor of the directory is of this database. It changes
// nothing and takes no lock, so it may be run beside the copy. Without -out it looks at
// a table that is not copied yet. It waits 30 seconds for the database at most.
//
// dbtofile -audit 1h watches the table for an hour, at a time when all writers are at
// work, and prints how many rows appeared below the cursor, where a copy would have missed
// them: with the ceiling, and without one. It writes nothing and reads keys only.
//
// # Going back
//
// Stop the copy. Then dbtofile -rewind KEY sets it back to just behind a key, written as
// for -start, or to before the first row with -rewind first, prints where it was and
// where it is now, and exits. At the next start the rows that follow are copied again,
// to new files. Files that are complete stay as they are: those whose rows come again
// are for you to set aside, by the numbers in their names.
//
// A cursor remembers the database it was made in. If that was replaced, restored from a
// backup or made anew, dbtofile ends and says what happened. If the rows up to the
// cursor's key are nevertheless those that were copied, dbtofile -adopt has the copy go on
// behind the same key, with the database as it is now; otherwise use -rewind.
//
// On a terminal a line at the bottom shows the progress. Otherwise there are
// only log lines, on standard error. In a service of systemd each has the
// priority of its level: journalctl -u dbtofile -p warning shows what is worth a
// look. With -log-format json each line is a JSON object, the one that ends the
// program too; durations are seconds. What is logged is in poller/LOGS.md.
//
// # Watching it
//
// With -listen :9464 it serves, over HTTP and read-only,
//
//	/         a page that shows how it gets on
//	/status   the same as JSON
//	/livez    200 while it works or waits, 503 if only a restart can help
//	/readyz   200 while looking for rows goes well, 503 during an outage
//	/metrics  metrics for Prometheus
//
// An address without a host, such as :9464 or 9464, is on this machine alone. Nobody is
// asked for a password: give 0.0.0.0:9464, or one address of the machine, only where all
// who can reach it may see how many rows there are, the key of the last, what went wrong and
// which transactions hold rows back. No page shows more of a row than its key, or a DSN, and
// a client that hangs holds up nothing. Package poller/prometheus lists the metrics. What
// does one thing and exits, such as -check, does not listen.
//
// # Failures
//
// An outage of the database, at the start too, or a disk that fills up is no
// reason to exit: dbtofile says so, tries again until it is over, and goes on.
// What it exits for:
//
//	0  with -once: all rows are copied; with -check: all is well; with -rewind and
//	   -adopt: it is done; otherwise: stopped by SIGTERM or SIGINT
//	1  it cannot go on, such as no such table, wrong password, the directory or
//	   the port of -listen is in use, rows would be missed, or -once was stopped
//	   before the end; the error says why, and it can be started again. With -check:
//	   it could not look
//	2  wrong usage
//	3  with -once: some rows were still held back, for transactions that may
//	   yet add rows before them had not ended; those before are copied
//	4  with -check: rows could be missed with this ceiling, or the copy cannot go on
//	   from its cursor; with -audit: rows were missed
//
// The first SIGTERM or SIGINT finishes the batch being written, which takes 30
// seconds at most. A second one ends the process at once, and loses nothing
// either.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // 8 % less CPU than with 100, for 7 MB more memory
	}
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // the next signal ends the process

	c, err := parse(os.Args[1:], os.Environ())
	if err == nil {
		err = run(ctx, c)
	}
	os.Exit(report(err, c.logFormat))
}

// report says how it ended, and returns the exit code.
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
	case errors.Is(err, errCheck): // it is printed
		return 4
	case errors.As(err, &unsafe):
		say(logFormat, refusal(unsafe))
		return 1
	}
	say(logFormat, "dbtofile: "+err.Error())
	if errors.Is(err, poller.ErrHeld) {
		return 3
	}
	return 1
}

// refusal is what is wrong with a table, and what to do about it, for a terminal.
func refusal(e *ceiling.UnsafeError) string {
	return fmt.Sprintf("dbtofile: %v\nAll findings: dbtofile -check with the same settings.", e)
}
