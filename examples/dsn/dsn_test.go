package dsn

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const secret = "hunter2"

// words returns what a target says, in one line.
func (t target) words() string {
	switch {
	case t.postgres != nil:
		c := t.postgres
		mode := "plain"
		switch {
		case c.TLSConfig == nil:
		case c.TLSConfig.ServerName != "" && !c.TLSConfig.InsecureSkipVerify:
			mode = "verify"
		case len(c.Fallbacks) > 0:
			mode = "prefer"
		default:
			mode = "tls"
		}
		return fmt.Sprintf("postgres %s:%s@%s:%d/%s %s", c.User, c.Password, c.Host, c.Port, c.Database, mode)
	case t.mysql != nil:
		c := t.mysql
		mode := c.TLSConfig
		if c.TLS != nil && c.TLS.RootCAs != nil {
			mode = "authorities of " + c.TLS.ServerName
		}
		return strings.TrimSpace(fmt.Sprintf("mysql %s:%s@%s/%s %s", c.User, c.Passwd, c.Addr, c.DBName, mode))
	}
	return "sqlite"
}

// The DSNs that hosting providers, drivers and frameworks hand out.
func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		// Postgres
		"postgres://ada:hunter2@db/shop":                                                              "postgres ada:hunter2@db:5432/shop prefer",
		"postgresql://ada:hunter2@db:6432/shop?sslmode=disable":                                       "postgres ada:hunter2@db:6432/shop plain",
		"POSTGRES://ada:hunter2@db/shop":                                                              "postgres ada:hunter2@db:5432/shop prefer",
		"postgresql+psycopg2://ada:hunter2@db/shop":                                                   "postgres ada:hunter2@db:5432/shop prefer", // SQLAlchemy
		"postgresql+asyncpg://ada:hunter2@db/shop?ssl=require":                                        "postgres ada:hunter2@db:5432/shop tls",
		"postgis://ada:hunter2@db/shop?conn_max_age=600&ssl_require=true":                             "postgres ada:hunter2@db:5432/shop tls",    // Django
		"postgresql://ada:hunter2@db/shop?pool=5&encoding=unicode&prepared_statements=false":          "postgres ada:hunter2@db:5432/shop prefer", // Rails
		"postgres://ada:hunter2@db/shop?pgbouncer=true&connection_limit=1&schema=public":              "postgres ada:hunter2@db:5432/shop prefer", // Prisma
		"postgres://ada:hunter2@db/shop?sslaccept=strict":                                             "postgres ada:hunter2@db:5432/shop verify",
		"postgres://ada:hunter2@db/shop?sslmode=no-verify":                                            "postgres ada:hunter2@db:5432/shop tls", // node-postgres
		"postgres://avnadmin:hunter2@pg-1.a.aivencloud.com:13039/defaultdb?sslmode=require":           "postgres avnadmin:hunter2@pg-1.a.aivencloud.com:13039/defaultdb tls",
		"postgresql://doadmin:hunter2@db-1.b.db.ondigitalocean.com:25060/defaultdb?sslmode=require":   "postgres doadmin:hunter2@db-1.b.db.ondigitalocean.com:25060/defaultdb tls",
		"postgres://u1:hunter2@ec2-1.compute-1.amazonaws.com:5432/d1":                                 "postgres u1:hunter2@ec2-1.compute-1.amazonaws.com:5432/d1 prefer",
		"postgresql://postgres.ref:hunter2@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true": "postgres postgres.ref:hunter2@aws-0-eu.pooler.supabase.com:6543/postgres prefer",
		"postgresql://ada:hunter2@ep-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require":  "postgres ada:hunter2@ep-1.aws.neon.tech:5432/neondb tls",
		"psql 'postgresql://ada:hunter2@ep-1.aws.neon.tech/neondb?sslmode=require'":                   "postgres ada:hunter2@ep-1.aws.neon.tech:5432/neondb tls",
		"postgres://ada:hunter2@db/shop?sslmode=verify-full&sslrootcert=system":                       "postgres ada:hunter2@db:5432/shop verify",
		"jdbc:postgresql://db:5433/shop?user=ada&password=hunter2":                                    "postgres ada:hunter2@db:5433/shop prefer",
		"jdbc:postgresql://db/shop?user=ada&password=hunter2&ssl=true&currentSchema=a&loginTimeout=3": "postgres ada:hunter2@db:5432/shop verify",
		"jdbc:postgresql:shop?user=ada&password=hunter2":                                              "postgres ada:hunter2@localhost:5432/shop prefer",
		"host=db port=5433 user=ada password=hunter2 dbname=shop sslmode=require":                     "postgres ada:hunter2@db:5433/shop tls",
		"user=ada password='hunter2' host=db":                                                         "postgres ada:hunter2@db:5432/ prefer",
		"postgres://ada:hunter2%2F%40@db/shop":                                                        "postgres ada:hunter2/@@db:5432/shop prefer",
		// MySQL
		"mysql://ada:hunter2@db/shop":  "mysql ada:hunter2@db:3306/shop",
		"mysql2://ada:hunter2@db/shop": "mysql ada:hunter2@db:3306/shop", // Rails
		"mysql2://ada:hunter2@db/shop?pool=5&encoding=utf8&reconnect=true&timeout=5000":                          "mysql ada:hunter2@db:3306/shop",
		"mariadb+mariadbconnector://ada:hunter2@db/shop":                                                         "mysql ada:hunter2@db:3306/shop",
		"mysql+pymysql://ada:hunter2@db/shop?charset=utf8mb4":                                                    "mysql ada:hunter2@db:3306/shop",
		"mysql://ada:hunter2@db:25060/shop?ssl-mode=REQUIRED":                                                    "mysql ada:hunter2@db:25060/shop skip-verify", // DigitalOcean, Aiven
		"mysql://ada:hunter2@db/shop?ssl-mode=VERIFY_CA":                                                         "mysql ada:hunter2@db:3306/shop true",
		"mysql://ada:hunter2@db/shop?sslMode=DISABLED":                                                           "mysql ada:hunter2@db:3306/shop false",
		"mysql://ada:hunter2@aws.connect.psdb.cloud/shop?sslaccept=strict":                                       "mysql ada:hunter2@aws.connect.psdb.cloud:3306/shop true", // PlanetScale, Prisma
		`mysql://ada:hunter2@aws.connect.psdb.cloud/shop?ssl={"rejectUnauthorized":true}`:                        "mysql ada:hunter2@aws.connect.psdb.cloud:3306/shop true",
		"mysql://ada:hunter2@db/shop?ssl=true&connection_limit=5&pool_timeout=10":                                "mysql ada:hunter2@db:3306/shop skip-verify",
		"mysql://ada:hunter2@db/shop?tls=skip-verify&timeout=3s":                                                 "mysql ada:hunter2@db:3306/shop skip-verify",
		"jdbc:mysql://db:3307/shop?user=ada&password=hunter2&useSSL=true&serverTimezone=UTC&connectTimeout=2000": "mysql ada:hunter2@db:3307/shop skip-verify",
		"jdbc:mariadb://db/shop?user=ada&password=hunter2&useSSL=true&verifyServerCertificate=true":              "mysql ada:hunter2@db:3306/shop true",
		"jdbc:mysql://db/shop?user=ada&password=hunter2&allowPublicKeyRetrieval=true&characterEncoding=UTF-8&useUnicode=true&rewriteBatchedStatements=true&zeroDateTimeBehavior=convertToNull": "mysql ada:hunter2@db:3306/shop",
		"mysql://ada:hunter2@localhost/shop?unix_socket=/run/mysqld/mysqld.sock": "mysql ada:hunter2@/run/mysqld/mysqld.sock/shop",
		"ada:hunter2@tcp(db:3306)/shop?parseTime=true":                           "mysql ada:hunter2@db:3306/shop",
		"mysql://ada:hunter2@tcp(db:3306)/shop":                                  "mysql ada:hunter2@db:3306/shop",
		// What is pasted around it
		`"postgres://ada:hunter2@db/shop"`:                     "postgres ada:hunter2@db:5432/shop prefer",
		"'mysql://ada:hunter2@db/shop'":                        "mysql ada:hunter2@db:3306/shop",
		"\ufeffpostgres://ada:hunter2@db/shop\r\n":             "postgres ada:hunter2@db:5432/shop prefer",
		"\ufeff\"postgres://ada:hunter2@db/shop\"\n":           "postgres ada:hunter2@db:5432/shop prefer",
		"DATABASE_URL=postgres://ada:hunter2@db/shop":          "postgres ada:hunter2@db:5432/shop prefer",
		`export DATABASE_URL="postgres://ada:hunter2@db/shop"`: "postgres ada:hunter2@db:5432/shop prefer",
		utf16Text("postgres://ada:hunter2@db/shop\r\n"):        "postgres ada:hunter2@db:5432/shop prefer",
	} {
		for range 3 { // parameters are in a map
			target, err := parse(text)
			if assert.NoError(t, err, text) {
				assert.Equal(t, want, target.words(), text)
			}
		}
	}
}

// utf16Text is what PowerShell writes to a file.
func utf16Text(text string) string {
	b := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return string(b)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	target, err := parse("jdbc:postgresql://db/shop?user=ada&currentSchema=sales&ApplicationName=x&loginTimeout=3&options=-c%20a%3Db")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"search_path": "sales", "application_name": "x", "options": "-c a=b"}, target.postgres.RuntimeParams)
	require.Equal(t, 3*time.Second, target.postgres.ConnectTimeout)
	target, err = parse("postgres://db/shop?user=ada&password=a+b%20c")
	require.NoError(t, err)
	require.Equal(t, "a+b c", target.postgres.Password)
	target, err = parse("postgres://db/shop")
	require.NoError(t, err)
	require.Equal(t, connectTimeout, target.postgres.ConnectTimeout)
	require.NotEmpty(t, target.postgres.RuntimeParams["application_name"])

	target, err = parse("jdbc:mysql://db/shop?connectTimeout=2000&characterEncoding=UTF-8&sql_mode=ANSI")
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, target.mysql.Timeout)
	require.Equal(t, "ANSI", target.mysql.Params["sql_mode"])
	require.Equal(t, "'+00:00'", target.mysql.Params["time_zone"])
	target, err = parse("mysql://db/shop?connect_timeout=7")
	require.NoError(t, err)
	require.Equal(t, 7*time.Second, target.mysql.Timeout)
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	_, err := parse("mysql://ada:hunter2@db/shop?ssl-ca=" + file)
	require.ErrorContains(t, err, "names a file that cannot be read: no such file")
	require.NotContains(t, err.Error(), file)
	require.NoError(t, os.WriteFile(file, []byte("no certificate"), 0o600))
	_, err = parse("mysql://ada:hunter2@db/shop?ssl-ca=" + file)
	require.ErrorContains(t, err, "without a certificate")
	require.NoError(t, os.WriteFile(file, selfSigned(t), 0o600))
	target, err := parse("mysql://ada:hunter2@db/shop?ssl-mode=VERIFY_CA&ssl-ca=" + file)
	require.NoError(t, err)
	require.Equal(t, "mysql ada:hunter2@db:3306/shop authorities of db", target.words())
	require.EqualValues(t, tls.VersionTLS12, target.mysql.TLS.MinVersion)
	target, err = parse("mysql://ada:hunter2@db/shop?ssl-mode=DISABLED&ssl-ca=" + file)
	require.NoError(t, err)
	require.Equal(t, "mysql ada:hunter2@db:3306/shop false", target.words())
}

func TestSQLitePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("shop.db", nil, 0o600))
	require.NoError(t, os.WriteFile("a?b.db", nil, 0o600))
	full := filepath.Join(dir, "shop.db")
	for text, want := range map[string]string{
		"sqlite:shop.db":              "file:shop.db?",
		"sqlite:" + full:              "file:" + full + "?",
		"sqlite://" + full:            "file:" + full + "?",
		"sqlite://shop.db":            "file:shop.db?",
		"sqlite:///shop.db":           "file:shop.db?", // Django, SQLAlchemy
		"sqlite:////" + full[1:]:      "file:" + full + "?",
		"sqlite3:shop.db":             "file:shop.db?", // Rails
		"sqlite+aiosqlite:///shop.db": "file:shop.db?",
		"jdbc:sqlite:shop.db":         "file:shop.db?",
		"file:./shop.db":              "file:shop.db?", // Prisma
		"sqlite:shop.db?mode=ro":      "file:shop.db?",
		"sqlite:a?b.db":               "file:a%3Fb.db?",
		"sqlite:shop.db?cache=shared": "file:shop.db?",
	} {
		target, err := parse(text)
		if assert.NoError(t, err, text) {
			assert.True(t, strings.HasPrefix(target.sqlite, want), "%s: %s", text, target.sqlite)
		}
	}
	_, err := parse("sqlite:shop.db?_pragma=key(hunter2)")
	require.ErrorIs(t, err, ErrMalformed)
	require.NotContains(t, err.Error(), secret)
	_, err = parse("sqlite:nosuch.db")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, ErrMalformed)
	_, err = parse("sqlite:nosuch.db?_pragma=foreign_keys(1)")
	require.ErrorContains(t, err, "stat nosuch.db: no such file")
}

// Forms that are refused. None of the errors shows the password.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                      "is empty",
		"''":                                    "is empty",
		"hunter2":                               "has an unknown format",
		"postgres://a:hunter2@h/d\nmysql://b@h": "has several lines",
		"oracle://ada:hunter2@db/shop":          "names a database of the kind oracle",
		"jdbc:sqlserver://db;user=ada;password=hunter2":                      "names a database of the kind sqlserver",
		"mongodb+srv://ada:hunter2@db/shop":                                  "names a database of the kind mongodb",
		"Server=db;Database=shop;User Id=ada;Password=hunter2;":              "has an unknown format",
		"postgresql://postgres:[YOUR-PASSWORD]@db.supabase.co:5432/postgres": "still has the placeholder [YOUR-PASSWORD]",
		"postgres://ada:hunter2#x@db/shop":                                   "special characters of the password percent-encoded",
		"postgres://ada:hunter2/x@db/shop":                                   "special characters of the password percent-encoded",
		"postgres://ada:hunter2?x@db/shop":                                   "special characters of the password percent-encoded",
		"postgres://ada:hunter2%@db/shop":                                    "special characters of the password percent-encoded",
		"postgres:ada:hunter2@db/shop":                                       "is not valid: want postgres://",
		"postgres://ada:hunter2@db/shop?sslmode=perhaps":                     "a value of sslmode that is not known",
		"host=db port=x password=hunter2":                                    "is not valid for Postgres",
		"host=db password='hunter2":                                          "is not valid for Postgres",
		"mysql://ada:hunter2#x@db/shop":                                      "special characters of the password percent-encoded",
		"mysql://ada:hunter2/x@db/shop":                                      "special characters of the password percent-encoded",
		"mysql://ada:1?hunter2=x@db/shop":                                    "special characters of the password percent-encoded",
		"mysql://ada?Hunter2-hunter2=x@db/shop":                              "special characters of the password percent-encoded",
		"mysql://ada:hunter2@db/shop?some-thing=1":                           `a parameter that is not known for MySQL: remove it: "some-thing"`,
		"mysql://ada:hunter2@db/shop?parseTime=perhaps":                      "a wrong value",
		"ada:hunter2@tcp(db":                                                 "is not valid for MySQL",
		"ada:hunter2@db":                                                     "is not valid for MySQL",
		"sqlite:":                                                            "has no path",
		"sqlite:shop.db?_pragma=key(hunter2)":                                "asks for an encrypted SQLite database",
		"sqlite://ada:hunter2@db/shop":                                       "has a user, which a SQLite database does not have",
		"sqlite:shop.db?_pragma=hexkey('hunter2')":                           "asks for an encrypted SQLite database",
		"sqlite:shop.db?vfs=adiantum&textkey=hunter2":                        "asks for an encrypted SQLite database",
	} {
		_, err := parse(text)
		if assert.ErrorContains(t, err, want, text) {
			assert.ErrorIs(t, err, ErrMalformed)
			assert.NotContains(t, strings.ToLower(err.Error()), secret, text)
			for ; err != nil; err = errors.Unwrap(err) {
				assert.NotContains(t, strings.ToLower(fmt.Sprintf("%+v", err)), secret, text)
			}
		}
	}
}
