package retry_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/retry"
)

// PgError has the fields of pgx's error type. Package dberr recognises it by them.
type PgError struct {
	Code, Message, Detail, Where                      string
	SchemaName, TableName, ColumnName, ConstraintName string
}

func (e *PgError) Error() string    { return "ERROR: " + e.Message + " (SQLSTATE " + e.Code + ")" }
func (e *PgError) SQLState() string { return e.Code }

// MySQLError has the name and the fields of go-sql-driver's type.
type MySQLError struct {
	Number   uint16
	SQLState [5]byte
	Message  string
}

func (e *MySQLError) Error() string {
	return fmt.Sprintf("Error %d (%s): %s", e.Number, e.SQLState, e.Message)
}

func pg(code string) error { return &PgError{Code: code, Message: "it failed"} }

func my(number uint16, state, message string) error {
	e := &MySQLError{Number: number, Message: message}
	copy(e.SQLState[:], state)
	return e
}

// uncomparable would panic if it were compared with ==.
type uncomparable []string

func (u uncomparable) Error() string { return strings.Join(u, " ") }

func TestClassify(t *testing.T) {
	t.Parallel()
	_, badURL := url.Parse("postgres://bob:hunter2@host:port/db")
	permanent := retry.Permanent(io.EOF)
	for _, c := range []struct {
		class retry.Class
		errs  []error
	}{
		{retry.Transient, []error{
			nil, errors.New("who knows"), uncomparable{"a"}, (*PgError)(nil), fmt.Errorf("so: %w", (*MySQLError)(nil)),
			io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, sql.ErrConnDone, context.DeadlineExceeded, os.ErrDeadlineExceeded,
			&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, &net.DNSError{Err: "no such host", IsNotFound: true},
			syscall.ENOSPC, fs.ErrPermission, &url.Error{Op: "Get", URL: "http://x", Err: io.EOF},
			pg("08006"), pg("25006"), pg("40001"), pg("40P01"), pg("53100"), pg("53300"), pg("54P99"), pg("55P03"), pg("57014"),
			pg("57P01"), pg("57P03"), pg("58030"), pg("P0001"), pg("XX000"), pg("26000"), pg("7"), pg(""),
			my(1205, "HY000", ""), my(1213, "40001", ""), my(1040, "08004", ""), my(1290, "HY000", ""), my(1836, "HY000", ""),
			my(1053, "08S01", ""), my(1927, "70100", ""), my(1203, "42000", ""), my(1226, "42000", ""), my(1644, "45000", ""), my(1040, "", ""),
		}},
		{retry.Setup, []error{
			pg("28P01"), pg("28000"), pg("3D000"), pg("3F000"), pg("42P01"), pg("42703"), pg("42601"), pg("42501"), pg("0A000"), pg("54011"), pg("55000"),
			my(1045, "28000", ""), my(1045, "", ""), my(1044, "42000", ""), my(1049, "42000", ""), my(1146, "42S02", ""), my(1054, "42S22", ""),
			my(1064, "42000", ""), my(1142, "42000", ""), my(1130, "HY000", ""), my(1364, "HY000", ""), my(1136, "21S01", ""),
			badURL, fmt.Errorf("pq: %w", badURL),
		}},
		{retry.Data, []error{
			pg("22P02"), pg("22003"), pg("23505"), pg("23514"), pg("21000"), pg("44000"), pg("54000"),
			my(1062, "23000", ""), my(1406, "22001", ""), my(1264, "22003", ""), my(1366, "HY000", ""), my(1292, "22007", ""),
			my(3819, "HY000", ""), my(1153, "08S01", ""),
		}},
		{retry.Fatal, []error{
			permanent, fmt.Errorf("a: %w", permanent), retry.Permanent(pg("40001")),
			errors.Join(pg("40001"), fmt.Errorf("b: %w", errors.Join(io.EOF, permanent))),
			retry.Permanent(permanent),
		}},
	} {
		for _, err := range c.errs {
			assert.Equal(t, c.class, retry.Classify(err), "%T %v", err, err)
			if err != nil {
				assert.Equal(t, c.class, retry.Classify(errors.Join(errors.New("a"), fmt.Errorf("b: %w", err))), "wrapped: %T %v", err, err)
			}
		}
	}
}

// A failed rollback or close after an error does not change the class of the error.
func TestTheFirstKnownErrorDecides(t *testing.T) {
	t.Parallel()
	for _, after := range []error{driver.ErrBadConn, io.EOF, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, context.DeadlineExceeded, pg("25P02")} {
		assert.Equal(t, retry.Data, retry.Classify(errors.Join(pg("23505"), after)), "%v", after)
		assert.Equal(t, retry.Transient, retry.Classify(errors.Join(after, pg("23505"))), "%v", after)
	}
	assert.Equal(t, retry.Data, retry.Classify(errors.Join(errors.New("unknown"), pg("23505"))))
}

func TestClassNames(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "transient setup data fatal", fmt.Sprint(retry.Transient, " ", retry.Setup, " ", retry.Data, " ", retry.Fatal))
}

func TestPermanentKeepsItsError(t *testing.T) {
	t.Parallel()
	assert.NoError(t, retry.Permanent(nil))
	err := retry.Permanent(fmt.Errorf("open: %w", fs.ErrNotExist))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, "open: file does not exist")
}
