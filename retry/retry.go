// Package retry decides what is worth trying again, and when.
package retry

import (
	"errors"
	goretry "github.com/sethvargo/go-retry"
	"time"
)

// Policy says how long to wait between attempts and when to give up. The zero
// value retries for ever, after waits of up to 100 ms that double to up to 30 s, with full jitter.
type Policy struct {
	Base        time.Duration // upper bound of the first wait; 0 means 100 ms
	Cap         time.Duration // upper bound of every wait; 0 means 30 s
	MaxAttempts int           // attempts in a row before giving up; 0 means no limit
	MaxElapsed  time.Duration // time since the first failure before giving up; 0 means no limit
}

// Validate reports the first field that makes no sense, or nil.
func (p Policy) Validate() error {
	if p.Base < 0 {
		return errors.New("Base is negative")
	}
	return nil
}

// Backoff returns the waits of one run of failures. It is stateful.
func (p Policy) Backoff() goretry.Backoff {
	return goretry.WithCappedDuration(30*time.Second, goretry.NewExponential(100*time.Millisecond))
}

// Class is what kind of error an error is.
type Class uint8

// The classes.
const (
	Transient Class = iota // may pass: an outage, a timeout, a deadlock, and everything unknown
	Setup                  // configuration: wrong password, missing table, syntax error
	Data                   // the data itself: SQLSTATE 22 and 23 and the like
	Fatal                  // marked by Permanent
)

// Classify returns the class of err.
func Classify(err error) Class {
	var f *fatal
	if errors.As(err, &f) {
		return Fatal
	}
	return Transient
}

type fatal struct{ error }

func (f *fatal) Unwrap() error { return f.error }

// Permanent marks err as never worth retrying.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &fatal{err}
}

// Text returns err's text without the values a driver's error may carry.
func Text(err error) string { return err.Error() }
