package retry

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"net"

	"github.com/artifactofdevotion/devotion/internal/dberr"
)

// Class is what kind of error an error is.
type Class uint8

// The classes. The package's doc says what is done about each.
const (
	Transient Class = iota // may pass: an outage, a timeout, a deadlock, and everything unknown
	Setup                  // configuration: a wrong password, a missing table, a syntax error
	Data                   // the values themselves: a violated constraint, a number out of range
	Fatal                  // marked with Permanent
)

// String returns the class's name in lower case.
func (c Class) String() string {
	return [...]string{"transient", "setup", "data", "fatal"}[c]
}

// Classify returns the class of err. A mark of [Permanent] wins wherever it is;
// else the first error that is known decides. Nil is Transient.
func Classify(err error) Class {
	class, known := Transient, false
	for e := range dberr.All(err) {
		if _, ok := e.(*permanent); ok {
			return Fatal
		}
		if known {
			continue
		}
		if _, kind, ok := dberr.Read(e); ok {
			class, known = Class(kind), true
			continue
		}
		switch e {
		case driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, context.Canceled:
			known = true
		}
		if _, ok := e.(net.Error); ok {
			known = true
		}
	}
	return class
}

// Permanent marks err as never worth retrying: whatever it wraps, and whatever
// wraps it, is [Fatal]. Its text is err's. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }
