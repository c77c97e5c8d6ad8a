package retry

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"net"

	"github.com/artifactofdevotion/devotion/internal/dberr"
)

// Class says whether an error is worth retrying.
type Class uint8

// The classes of errors. The package documentation says how each is handled.
const (
	Transient Class = iota // may pass: an outage, a timeout, a deadlock, and everything unknown
	Setup                  // configuration: a wrong password, a missing table, a syntax error
	Data                   // the values themselves: a violated constraint, a number out of range
	Fatal                  // marked with Permanent
)

// String returns the name of the class in lower case.
func (c Class) String() string {
	return [...]string{"transient", "setup", "data", "fatal"}[c]
}

// Classify returns the class of err. If an error in its tree was marked with
// [Permanent], the class is Fatal. Otherwise the first known error in the tree
// determines the class. If no error is known, or err is nil, the class is
// Transient.
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
		_, known = e.(net.Error)
		switch e {
		case driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, context.Canceled:
			known = true
		}
	}
	return class
}

// Permanent marks err as not worth retrying. The result, and every error that
// wraps it, has class [Fatal], whatever err itself wraps. It has the text of err
// and unwraps to err. Permanent(nil) returns nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// Text returns the text of err without values of rows and without data source
// names, so that it is safe to log.
//
// Database drivers put values into their messages, such as "Duplicate entry
// 'bob@example.org' for key 'email'". Text replaces the message of a driver's
// error by its code and the names of the constraint, table and column. It keeps
// the message only if messages with that code contain no values. The text of the
// errors that wrap it is kept. The list of attempts to connect that pgx returns is
// put on one line.
//
// Text also hides values in the errors that database/sql, strconv, time and pgx
// return when a value cannot be converted. It cannot look into an error that was
// formatted as text: wrap errors with %w, not with %v. Text does not change err
// itself. Text(nil) is empty.
func Text(err error) string { return dberr.Text(err) }
