package retry_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/retry"
)

const secret = "hunter2"

func TestText(t *testing.T) {
	t.Parallel()
	duplicate := &PgError{Code: "23505", Message: `duplicate key value violates unique constraint "users_email"`, Detail: "Key (email)=(hunter2) already exists.",
		SchemaName: "public", TableName: "users", ConstraintName: "users_email"}
	const duplicateText = "SQLSTATE 23505: duplicate key (constraint users_email, schema public, table users)"
	invalid := &PgError{Code: "22P02", Message: `invalid input syntax for type integer: "hunter2"`}
	const invalidText = "SQLSTATE 22P02: invalid text for its type"
	_, badURL := url.Parse("postgres://bob:hunter2@host:port/db")
	_, badNumber := strconv.Atoi(secret)
	_, badTime := time.Parse(time.DateOnly, secret)

	for _, c := range []struct {
		err  error
		text string
	}{
		{nil, ""},
		{errors.New("disk on fire"), "disk on fire"},
		{&fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist}, "open /x: file does not exist"},
		{&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5432}, Err: syscall.ECONNREFUSED}, "dial tcp 127.0.0.1:5432: connection refused"},
		{(*PgError)(nil), "<nil>"},
		{errors.Join(errors.New("a"), errors.New("b")), "a\nb"},
		{errors.New("sqlsource: orders: failed to connect to `user=ada`:\n\t[::1]:1: refused\n\t[::1]:1: refused\n\t127.0.0.1:1: refused"),
			"sqlsource: orders: failed to connect to `user=ada`: [::1]:1: refused; 127.0.0.1:1: refused"},

		// The driver's message is replaced, the text around it is kept.
		{duplicate, duplicateText},
		{fmt.Errorf("sqlsink: orders: %w, after 3 rows", duplicate), "sqlsink: orders: " + duplicateText + ", after 3 rows"},
		{retry.Permanent(duplicate), duplicateText},
		{errors.Join(duplicate, errors.New("rollback failed"), invalid), duplicateText + "\nrollback failed\n" + invalidText},
		{fmt.Errorf("%w; %w", invalid, fmt.Errorf("again: %w", invalid)), invalidText + "; again: " + invalidText},
		// A wrapper that changes the text may repeat values in it.
		{rewritten{invalid}, invalidText},
		{fmt.Errorf("write: %w", rewritten{errors.Join(errors.New("a"), duplicate)}), "write: a\n" + duplicateText},

		// Messages without values are shown, unless code in the database may have set them.
		{&PgError{Code: "42P01", Message: `relation "orders" does not exist`}, `SQLSTATE 42P01: relation "orders" does not exist`},
		{&PgError{Code: "42P01", Message: `relation "hunter2" does not exist`, Where: "PL/pgSQL function f() line 1 at EXECUTE"}, "SQLSTATE 42P01"},
		{&PgError{Code: "40001", Message: "hunter2", Where: "PL/pgSQL function f() line 1 at RAISE"}, "SQLSTATE 40001: serialization failure"},
		{&PgError{Code: "P0001", Message: "no such user: hunter2"}, "SQLSTATE P0001: raised by code in the database"},
		{&PgError{Code: "XX000", Message: secret}, "SQLSTATE XX000"},
		{&PgError{Code: "42601", Message: `syntax error at or near "FORM"`}, "SQLSTATE 42601: syntax error near FORM"},
		{&PgError{Code: "42601", Message: `syntax error at or near "'hunter2'"`}, "SQLSTATE 42601: syntax error"},

		{my(1062, "23000", "Duplicate entry 'hunter2' for key 'users.email'"), "MySQL error 1062 (23000): integrity constraint violated (key 'users.email')"},
		{my(1062, "23000", "Duplicate entry 'for key 'hunter2'' for key 'PRIMARY'"), "MySQL error 1062 (23000): integrity constraint violated (key 'PRIMARY')"},
		{my(1366, "22007", "Incorrect integer value: 'hunter2' for column `db`.`t`.`a` at row 1"), "MySQL error 1366 (22007): incorrect value (column `db`.`t`.`a`)"},
		{my(1292, "22007", "Truncated incorrect INTEGER value: 'hunter2'"), "MySQL error 1292 (22007): incorrect value"},
		{my(1406, "22001", "Data too long for column 'a' at row 1"), "MySQL error 1406 (22001): Data too long for column 'a' at row 1"},
		{my(1045, "28000", "Access denied for user 'bob'@'localhost' (using password: YES)"), "MySQL error 1045 (28000): Access denied for user 'bob'@'localhost' (using password: YES)"},
		{my(1064, "42000", "You have an error in your SQL syntax; check the manual near 'FORM t where a = 'hunter2'' at line 1"), "MySQL error 1064 (42000): syntax error near FORM"},
		{my(1064, "42000", "You have an error in your SQL syntax; check the manual near ''hunter2'' at line 1"), "MySQL error 1064 (42000): syntax error"},
		{my(1644, "42000", secret), "MySQL error 1644 (42000)"},
		{my(3, "HY000", "Error writing file '/tmp/x' (Errcode: 28)"), "MySQL error 3 (HY000): Error writing file '/tmp/x' (Errcode: 28)"},
		{my(1105, "HY000", secret), "MySQL error 1105 (HY000)"},
		{my(1040, "", "Too many connections"), "MySQL error 1040: Too many connections"},

		{badURL, "the URL or data source name cannot be parsed (not shown, because it may contain a password)"},
		{fmt.Errorf("open: %w", badURL), "open: the URL or data source name cannot be parsed (not shown, because it may contain a password)"},

		{fmt.Errorf(`sql: Scan error on column index 1, name "a\"b": %w`, fmt.Errorf("converting driver.Value type string (%q) to a int: invalid syntax", secret)),
			`sql: Scan error on column index 1, name "a\"b": converting driver.Value type string (value not shown)`},
		{fmt.Errorf(`sql: Scan error on column index 1, name "a": %w`, errors.New("decimal: can't convert hunter2")), `sql: Scan error on column index 1, name "a": (value not shown)`},
		{fmt.Errorf("read: %w", badNumber), `read: strconv.Atoi: parsing (value not shown)`},
		{badTime, `parsing time (value not shown)`},
		{errors.New(`failed to encode args[0]: unable to encode "hunter2" into binary format for int4 (OID 23): cannot find encode plan`), "failed to encode args[0]: unable to encode (value not shown)"},
	} {
		text := retry.Text(c.err)
		assert.Equal(t, c.text, text)
		assert.NotContains(t, text, secret)
	}
}

type rewritten struct{ error }

func (r rewritten) Error() string { return strings.ToUpper(r.error.Error()) + "hunter" }
func (r rewritten) Unwrap() error { return r.error }

// A real Scan error, so that the test fails if a new version of Go changes its text.
func TestTextOfARealScanError(t *testing.T) {
	t.Parallel()
	var n sql.Null[int]
	err := n.Scan(secret)
	assert.ErrorContains(t, err, secret)
	assert.NotContains(t, retry.Text(fmt.Errorf(`sql: Scan error on column index 0, name "a": %w`, err)), secret)
}

// The message of a driver's error stays hidden, whatever wraps it and how often.
func FuzzText(f *testing.F) {
	f.Add("write: ", "", byte(0), "x")
	f.Add("hunter", "2", byte(3), "Duplicate entry")
	f.Fuzz(func(t *testing.T, before, after string, how byte, message string) {
		planted := "<<" + message + ">>" // distinguishes it from the text around it
		if strings.Contains(before+after, "<<") {
			t.Skip()
		}
		var err error = &PgError{Code: "22P02", Message: planted}
		if how&1 != 0 {
			err = my(1062, "23000", planted+" for key 'k'")
		}
		for range how >> 1 % 4 {
			switch {
			case how&64 != 0:
				err = rewritten{err}
			case how&128 != 0:
				err = errors.Join(errors.New(before), err)
			default:
				err = fmt.Errorf("%s%w%s", before, err, after)
			}
		}
		assert.NotContains(t, strings.ToUpper(retry.Text(err)), strings.ToUpper(planted))
		retry.Classify(err)
	})
}
