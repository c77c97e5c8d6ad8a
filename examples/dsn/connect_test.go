package dsn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// selfSigned returns a certificate that nobody trusts.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: untrusted(t).Certificate[0]})
}

func untrusted(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// ping connects once.
func ping(t *testing.T, db *sqlx.DB) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return db.PingContext(ctx)
}

func always(text string) func() (string, error) { return func() (string, error) { return text, nil } }

// The DSN is asked for at each connect: a rotated password is used, and an outage of
// what holds it is waited out.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	postgres, maria := dbtest.Postgres(t).NewDatabase(t), dbtest.MariaDB(t).NewDatabase(t)
	for name, d := range map[string]dbtest.Database{"postgres": postgres, "mariadb": maria} {
		driver := d.Drivers()[0]
		if name == "mariadb" {
			driver = dbtest.MySQLText
		}
		var text string
		var failed error
		text = d.DSN(driver)
		db, err := Open(func() (string, error) { return text, failed })
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, ping(t, db))
		db.SetMaxIdleConns(0)

		text = d.WithUser("dbtest", "hunter2/wrong").DSN(driver)
		err = ping(t, db)
		require.ErrorContains(t, err, "cannot connect")
		require.Equal(t, retry.Setup, retry.Classify(err), name)
		require.Contains(t, retry.Text(err), "password is wrong")
		failed = errors.New("the file is being replaced")
		require.ErrorIs(t, ping(t, db), failed)
		text, failed = "", nil
		err = ping(t, db)
		require.ErrorIs(t, err, ErrMalformed)
		require.Equal(t, retry.Transient, retry.Classify(err))
		text = "sqlite:" + t.TempDir()
		require.ErrorContains(t, ping(t, db), "another kind of database")
		text = d.DSN(driver)
		require.NoError(t, ping(t, db))
	}
	_, err := Open(func() (string, error) { return "", errors.New("no file") })
	require.EqualError(t, err, "no file")
}

// serve answers each connection with f, and returns the address.
func serve(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}

// A server that asks for the password in clear text and repeats it in its error.
func TestARogueServersWordsAreNotShown(t *testing.T) {
	t.Parallel()
	postgres := serve(t, func(conn net.Conn) {
		b := pgproto3.NewBackend(conn, conn)
		for {
			m, err := b.ReceiveStartupMessage()
			if err != nil {
				return
			}
			if _, ok := m.(*pgproto3.SSLRequest); !ok {
				break
			}
			_, _ = conn.Write([]byte("N"))
		}
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		_ = b.Flush()
		_ = b.SetAuthType(pgproto3.AuthTypeCleartextPassword)
		password := "no password"
		if m, err := b.Receive(); err == nil {
			password = m.(*pgproto3.PasswordMessage).Password
		}
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "got " + password + "\nlevel=ERROR", Detail: password, Hint: password})
		_ = b.Flush()
	})
	mysql := serve(t, func(conn net.Conn) {
		_, _ = conn.Write(append([]byte{26, 0, 0, 0, 0xff, 0x15, 0x04}, "#28000hunter2 got hunter"[:23]...))
	})
	for _, text := range []string{"postgres://ada:hunter2@" + postgres + "/shop", "mysql://ada:hunter2@" + mysql + "/shop"} {
		db, err := Open(always(text))
		require.NoError(t, err)
		defer db.Close()
		err = ping(t, db)
		require.ErrorContains(t, err, "password is wrong")
		require.Equal(t, retry.Setup, retry.Classify(err), "%v", err)
		assert.NotContains(t, err.Error()+retry.Text(err), secret)
		assert.NotContains(t, err.Error()+retry.Text(err), "level=")
		assert.NotContains(t, retry.Text(err), "TLS", "that TLS was refused is not the cause")
	}
}

// What TLS rejects is permanent, and an unreachable server is not.
func TestRejectedTLS(t *testing.T) {
	t.Parallel()
	certificate := untrusted(t)
	secure := func(accept string) string {
		return serve(t, func(conn net.Conn) {
			b := make([]byte, 8)
			if _, err := conn.Read(b); err != nil {
				return
			}
			_, _ = conn.Write([]byte(accept))
			if accept == "S" {
				_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
			}
		})
	}
	without := dbtest.MariaDB(t).NewDatabase(t)
	withoutTLS := strings.Replace(without.DSN(dbtest.MySQLText), "?", "?tls=true&", 1)
	if !strings.Contains(withoutTLS, "?") {
		withoutTLS += "?tls=true"
	}
	for _, text := range []string{
		"postgres://ada:hunter2@" + secure("S") + "/shop?sslmode=verify-full",
		"postgres://ada:hunter2@" + secure("N") + "/shop?sslmode=require",
		withoutTLS,
	} {
		db, err := Open(always(text))
		require.NoError(t, err)
		defer db.Close()
		err = ping(t, db)
		require.Equal(t, retry.Fatal, retry.Classify(err), "%v", err)
	}
	db, err := Open(always("postgres://ada:hunter2@127.0.0.1:1/shop"))
	require.NoError(t, err)
	defer db.Close()
	err = ping(t, db)
	require.Equal(t, retry.Transient, retry.Classify(err))
	require.NotContains(t, retry.Text(err), "\n")
	require.NotContains(t, retry.Text(err), `\t`)
}
