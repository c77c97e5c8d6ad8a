package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// canaries are DSNs of all forms, with the password hunter2/s3cr"t% in one of its
// encodings, for servers that do not answer.
func canaries() []string {
	pw, q := escaped, planted
	return []string{
		"postgres://ada:" + pw + "@127.0.0.1:1/shop", "postgresql://ada:" + pw + "@127.0.0.1:1/shop?sslmode=require",
		"postgres://127.0.0.1:1/shop?user=ada&password=" + pw, "postgres://ada:" + q + "@127.0.0.1:1/shop", "postgres:ada:" + pw + "@127.0.0.1/shop",
		"postgresql+psycopg2://ada:" + pw + "@127.0.0.1:1/shop", "postgresql+asyncpg://ada:" + pw + "@127.0.0.1:1/shop", "postgis://ada:" + pw + "@127.0.0.1:1/shop",
		"jdbc:postgresql://127.0.0.1:1/shop?user=ada&password=" + pw, "jdbc:postgresql:shop?user=ada&password=" + q, "jdbc:postgresql://127.0.0.1:x/shop?password=" + pw,
		"postgres://ada:" + pw + "@127.0.0.1:1/shop?pgbouncer=true", "postgres://ada:" + pw + "@127.0.0.1:1/shop?sslmode=perhaps", "postgres://ada:" + pw + "@127.0.0.1:99999/shop",
		"postgres://ada:" + pw + "@127.0.0.1:1/shop?connect_timeout=x", "postgres://ada:" + pw + "@127.0.0.1:1/shop?sslrootcert=/nosuch", "POSTGRES://ada:" + pw + "@127.0.0.1:1/shop",
		"host=127.0.0.1 port=1 user=ada password='" + q + "'", "host=127.0.0.1 port=1 user=ada password='" + q, "host=127.0.0.1 port=x password=" + pw, "password=" + pw + " host=127.0.0.1 port=1",
		`"postgres://ada:` + pw + `@127.0.0.1:1/shop"`, "'postgres://ada:" + pw + "@127.0.0.1:1/shop", "\ufeffpostgres://ada:" + pw + "@127.0.0.1:1/shop", "DATABASE_URL=postgres://ada:" + pw + "@127.0.0.1:1/shop",
		"psql 'postgres://ada:" + pw + "@127.0.0.1:1/shop'", "psql -h 127.0.0.1 postgres://ada:" + pw + "@127.0.0.1:1/shop", "postgres://ada:" + pw + "@127.0.0.1:1/shop\npostgres://ada:" + pw + "@b/c",
		"mysql://ada:" + pw + "@127.0.0.1:1/shop", "mysql2://ada:" + pw + "@127.0.0.1:1/shop", "mariadb://ada:" + pw + "@127.0.0.1:1/shop", "mysql+pymysql://ada:" + pw + "@127.0.0.1:1/shop",
		"mysql://ada:" + q + "@127.0.0.1:1/shop", "mysql://ada:" + pw + "@127.0.0.1:x/shop", "mysql://ada:" + pw + "@127.0.0.1:1/shop?parseTime=perhaps", "mysql://ada:" + pw + "@127.0.0.1:1/shop?ssl-mode=REQUIRED",
		"mysql://ada:" + pw + "@127.0.0.1:1/shop?sslaccept=strict", "mysql://ada:" + pw + "@127.0.0.1:1/shop?ssl-ca=/nosuch", "mysql://ada?" + pw + "@127.0.0.1:1/shop", "mysql://ada:x?" + pw + "=1@127.0.0.1:1/shop",
		"jdbc:mysql://127.0.0.1:1/shop?user=ada&password=" + pw, "jdbc:mariadb://127.0.0.1:1/shop?user=ada&password=" + pw + "&useSSL=true", "mysql:ada:" + pw + "@127.0.0.1:1/shop",
		"ada:" + q + "@tcp(127.0.0.1:1)/shop", "ada:" + q + "@tcp(127.0.0.1:1", "ada:" + q + "@tcp(127.0.0.1:1)/shop?tls=" + pw, "ada:" + q + "@127.0.0.1", "ada:" + q + "@/shop?timeout=" + pw, "mysql://ada:" + q + "@unix(/nosuch)/shop",
		"sqlite:nosuch.db?_pragma=key(" + pw + ")", "sqlite:nosuch.db?_pragma=key('" + q + "')&_pragma=foreign_keys(1)", "sqlite:///nosuch.db?vfs=adiantum&_pragma=hexkey(" + pw + ")", "sqlite:nosuch.db?password=" + pw,
		"oracle://ada:" + pw + "@127.0.0.1/shop", "jdbc:sqlserver://127.0.0.1;user=ada;password=" + q, "mongodb+srv://ada:" + pw + "@127.0.0.1/shop", "Server=127.0.0.1;User Id=ada;Password=" + q, q,
	}
}

// No form of a DSN shows its password: not in an error, and not in a log line.
func TestNoFormOfADSNIsShown(t *testing.T) {
	t.Parallel()
	forms := canaries()
	require.GreaterOrEqual(t, len(forms), 55)
	for _, dsn := range forms {
		file := filepath.Join(t.TempDir(), "dsn")
		require.NoError(t, os.WriteFile(file, []byte(dsn), 0o600))
		p := run(t, nil, "-dsn-file", file, "-table", "orders", "-key", "id", "-check", "-log-level", "debug")
		require.Contains(t, []int{1, 2}, p.code(), "%q: %s", dsn, &p.stderr)
		require.NotEmpty(t, p.stderr.String())
		keeps(t, p)
		require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", &p.stderr)
		if p.code() == 1 {
			p = run(t, nil, "-dsn-file", file, "-table", "orders", "-key", "id", "-once", "-timeout", "1ms", "-out", t.TempDir(), "-log-level", "debug")
			require.NotEqual(t, 0, p.code())
			keeps(t, p)
		}
	}
}
