// Package retry decides what is worth trying again, and when.
//
// [Policy] says when: capped exponential backoff with full jitter. [Classify]
// says what, by looking for the first error it knows in an error's tree
// (wrapped errors and those of errors.Join, depth first):
//
//   - [Fatal]: the error was marked with [Permanent]. It ends a Poller's Run.
//   - [Setup]: the configuration is wrong. It ends Run unless the same step has
//     succeeded in this Run: what has worked before is not misconfigured, but is
//     being changed, restored or migrated, and is tried again like an outage.
//   - [Data]: the database refuses the values themselves and will refuse them
//     again. A sink tells its caller so with sink.Reject, which makes the Poller
//     look for the record. Without that it is retried like an outage.
//   - [Transient]: all else, errors this package does not know included. It is
//     retried, because what stops for no reason is noticed too late, while what
//     is retried for no reason shows in the log and in the pipeline's lag.
//
// Databases are told by their codes:
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
// A trigger that means to refuse a record for good raises one of the codes
// under Data, such as SQLSTATE 23514.
//
// This works with pgx, lib/pq, go-sql-driver/mysql and the SQLite drivers of
// modernc, ncruces and mattn, none of which is imported.
package retry

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"

	goretry "github.com/sethvargo/go-retry"
)

// What the zero Policy means.
const (
	DefaultBase = 100 * time.Millisecond
	DefaultCap  = 30 * time.Second
)

// Policy says how long to wait between attempts and when to give up. The zero
// value retries for ever. The nth wait is drawn uniformly from (0, bound],
// where the bound begins at Base and doubles up to Cap: "full jitter", which
// keeps many clients of one failed server from coming back together
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
type Policy struct {
	Base        time.Duration // bound of the first wait; 0 means DefaultBase
	Cap         time.Duration // greatest bound; 0 means DefaultCap
	MaxAttempts int           // attempts in a row before giving up, the first included; 0 means no limit
	MaxElapsed  time.Duration // time since Backoff was called before giving up; 0 means no limit
}

// Validate reports the first field that makes no sense, by its name, or nil.
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

// Backoff returns the waits of one run of failures, in order. It is stateful:
// make one when a step first fails, and drop it when the step has succeeded. It
// is not safe for concurrent use. The policy must be valid.
func (p Policy) Backoff() goretry.Backoff {
	// The cap is inside the jitter: the other way round a late wait would hit
	// the cap nearly always, and clients would march in step again.
	bound := goretry.WithCappedDuration(cmp.Or(p.Cap, DefaultCap), goretry.NewExponential(cmp.Or(p.Base, DefaultBase)))
	var b goretry.Backoff = goretry.BackoffFunc(func() (time.Duration, bool) {
		d, stop := bound.Next()
		return 1 + rand.N(d), stop // goretry.WithFullJitter may return 0, which does not wait at all
	})
	if p.MaxAttempts > 0 {
		b = goretry.WithMaxRetries(uint64(p.MaxAttempts-1), b)
	}
	if p.MaxElapsed > 0 {
		b = goretry.WithMaxDuration(p.MaxElapsed, b)
	}
	return b
}
