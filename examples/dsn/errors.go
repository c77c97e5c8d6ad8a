package dsn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// refusedTLS is the text of pgx about a server without TLS. With sslmode=prefer the
// attempt without TLS follows, and its error is the cause.
const refusedTLS = "server refused TLS connection"

// public returns the error of a connect without text that the server has sent. The
// server has not proven yet who it is, and it may have been told the password.
func public(err error) error {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return fmt.Errorf("cannot connect: %w", &mysql.MySQLError{Number: my.Number, SQLState: my.SQLState, Message: mysqlRefusals[my.Number]})
	}
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	causes := []error{errors.Unwrap(connect)}
	if several, ok := causes[0].(interface{ Unwrap() []error }); ok {
		causes = several.Unwrap()
	}
	if tried := slices.DeleteFunc(slices.Clone(causes), func(err error) bool { return strings.Contains(err.Error(), refusedTLS) }); len(tried) > 0 {
		causes = tried
	}
	safe := &refused{}
	for _, cause := range causes {
		text := cause.Error()
		var pg *pgconn.PgError
		if errors.As(cause, &pg) {
			text, cause = "", &pgconn.PgError{Code: pg.Code, Message: postgresRefusal(pg.Code)}
		}
		if !slices.ContainsFunc(safe.causes, func(seen error) bool { return seen.Error() == cause.Error() }) {
			safe.causes, safe.texts = append(safe.causes, cause), append(safe.texts, text)
		}
	}
	return fmt.Errorf("cannot connect: %w", safe)
}

// refused is a list of attempts, on one line.
type refused struct {
	causes []error
	texts  []string // "" for the text of the cause
}

func (r *refused) Error() string {
	var all []string
	for i, cause := range r.causes {
		if r.texts[i] == "" {
			r.texts[i] = cause.Error()
		}
		all = append(all, r.texts[i])
	}
	return strings.Join(all, "; ")
}

func (r *refused) Unwrap() []error { return r.causes }

// postgresRefusal returns words for the SQLSTATE of a refused connection.
func postgresRefusal(code string) string {
	words := map[string]string{
		"28P01": "the user or the password is wrong",
		"28000": "the server does not let this user in from here (pg_hba.conf), or only with TLS",
		"3D000": "the database does not exist",
		"42704": "the DSN has a parameter that the server does not know",
		"22023": "the DSN has a parameter with a value that the server refuses",
		"42501": "the user may not connect to this database",
		"53300": "the server has too many connections",
		"55000": "the database does not accept connections",
		"57P03": "the server is starting up or shutting down",
	}
	if text, ok := words[code]; ok {
		return text
	}
	return "the server refused the connection"
}

var mysqlRefusals = map[uint16]string{
	1040: "the server has too many connections",
	1044: "the user has no access to this database",
	1045: "access denied: the user or the password is wrong",
	1049: "the database does not exist",
	1129: "the server blocks this host after many errors: FLUSH HOSTS",
	1130: "the server does not let this host in",
	1193: "the DSN has a parameter that the server does not know",
	1203: "the user has too many connections",
	1226: "the user has too many connections",
	1251: "the server wants another authentication method than the driver has",
	1698: "access denied: the user may log in by the socket only",
	3159: "the server lets in connections with TLS only: add tls=true or ssl-mode=REQUIRED",
}

// tlsRejected reports whether TLS failed in a way that waiting does not change.
func tlsRejected(err error) bool {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown), errors.As(err, &invalid), errors.As(err, &name), errors.As(err, &verification), errors.As(err, &record):
		return true
	case errors.Is(err, mysql.ErrNoTLS):
		return true
	}
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && !errors.As(err, &pg) && strings.HasSuffix(err.Error(), refusedTLS)
}
