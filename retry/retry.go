// Package retry decides whether a failed step is worth trying again, and when.
//
//	waits := retry.Policy{}.Backoff()
//	for {
//		err := step()
//		if err == nil || retry.Classify(err) == retry.Fatal {
//			return err
//		}
//		wait, giveUp := waits.Next()
//		if giveUp {
//			return err
//		}
//		time.Sleep(wait)
//	}
//
// [Policy] determines the waits: capped exponential backoff with full jitter.
// [Classify] sorts errors into classes. It searches an error's tree, depth first,
// for the first error that it knows:
//
//   - [Fatal]: the error was marked with [Permanent]. It ends a Poller's Run.
//   - [Setup]: the configuration is wrong. It ends Run, unless the same step has
//     succeeded before in this run. Configuration that worked before is not
//     wrong: the database is being changed, restored or migrated, and the step is
//     retried as in an outage.
//   - [Data]: the database rejects the values, and will reject them again. A sink
//     reports this with sink.Reject, and the Poller then isolates the record. If
//     the sink does not, the error is retried.
//   - [Transient]: everything else, including errors that this package does not
//     know. It is retried: a pipeline that stops without need is noticed too late,
//     while one that retries without need shows in the log and in its lag.
//
// Errors of databases are recognised by their codes:
//
//	            Setup                            Data                        Transient
//	SQLSTATE    0A 28 3D 3F 42, 54001 54011      21 22 23 44, 54000 (row     all others: 08 lost connection, 25006
//	            54023 (statement too complex)    or index entry too large)   read-only (as in a failover), 40, 53,
//	                                                                         55, 57, 58, P0001 (raised), XX
//	MySQL       by its SQLSTATE, and 1130 1193   by its SQLSTATE, and 1118   by its SQLSTATE (40001 deadlock), and
//	            1251 1267 1364 1524 1820 1862    1153 (too large), 1265      1203 1226 1461 (limits), 1205 lock wait,
//	                                             1366 1411 1525 3819         1290 1836 read-only, all others
//	SQLite      ERROR PERM READONLY CORRUPT      CONSTRAINT TOOBIG MISMATCH  BUSY LOCKED NOMEM INTERRUPT IOERR FULL
//	            CANTOPEN MISUSE NOLFS AUTH                                   PROTOCOL SCHEMA, all others
//	            RANGE NOTADB
//
// A trigger that should reject a record permanently must raise one of the codes
// under Data, such as SQLSTATE 23514.
//
// This works with pgx, lib/pq, go-sql-driver/mysql and the SQLite drivers of
// modernc, ncruces and mattn. None of them is imported.
package retry

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"

	goretry "github.com/sethvargo/go-retry"
)

// The values that the zero Policy uses.
const (
	DefaultBase = 100 * time.Millisecond
	DefaultCap  = 30 * time.Second
)

// Policy determines how long to wait between attempts, and when to give up. The
// zero value retries without limit.
//
// Each wait is drawn at random from (0, bound]. The bound starts at Base and
// doubles with each wait, up to Cap. This is called full jitter. It prevents many
// clients of a failed server from returning at the same moment
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
type Policy struct {
	// Base is the upper bound of the first wait. 0 means DefaultBase.
	Base time.Duration

	// Cap is the upper bound of every wait. 0 means DefaultCap.
	Cap time.Duration

	// MaxAttempts is the maximum number of attempts in a row, including the
	// first. 0 means no limit.
	MaxAttempts int

	// MaxElapsed is the maximum time from the first failure to the last attempt.
	// 0 means no limit.
	MaxElapsed time.Duration
}

// Validate returns an error that names the first invalid field, or nil.
func (p Policy) Validate() error {
	base, limit := cmp.Or(p.Base, DefaultBase), cmp.Or(p.Cap, DefaultCap)
	switch {
	case p.Base < 0:
		return fmt.Errorf("retry: Policy.Base is negative: %v", p.Base)
	case p.Cap < 0:
		return fmt.Errorf("retry: Policy.Cap is negative: %v", p.Cap)
	case base > limit:
		return fmt.Errorf("retry: Policy.Base (%v) is above Policy.Cap (%v)", base, limit)
	case p.MaxAttempts < 0:
		return fmt.Errorf("retry: Policy.MaxAttempts is negative: %d", p.MaxAttempts)
	case p.MaxElapsed < 0:
		return fmt.Errorf("retry: Policy.MaxElapsed is negative: %v", p.MaxElapsed)
	}
	return nil
}

// Backoff returns the sequence of waits for one series of failures. Call it when a
// step first fails, and discard the result when the step succeeds: it is
// stateful, and MaxElapsed counts from this call. The result is not safe for
// concurrent use. The policy must be valid, see Validate.
func (p Policy) Backoff() goretry.Backoff {
	// The cap is applied before the jitter. If it were applied after, most late
	// waits would be exactly Cap, and clients would return together again.
	bound := goretry.WithCappedDuration(cmp.Or(p.Cap, DefaultCap), goretry.NewExponential(cmp.Or(p.Base, DefaultBase)))
	var b goretry.Backoff = goretry.BackoffFunc(func() (time.Duration, bool) {
		d, stop := bound.Next()
		return 1 + rand.N(d), stop // unlike goretry.WithFullJitter, never 0
	})
	if p.MaxAttempts > 0 {
		b = goretry.WithMaxRetries(uint64(p.MaxAttempts-1), b)
	}
	if p.MaxElapsed > 0 {
		b = goretry.WithMaxDuration(p.MaxElapsed, b)
	}
	return b
}
