package main_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// planted is a password that must be escaped in a URL.
const planted = `hunter2/s3cr"t%`

var escaped = url.PathEscape(planted)

// keeps fails if the output of the program, or a file in its directories, contains
// the password in any form.
func keeps(t *testing.T, p *process, dirs ...string) {
	t.Helper()
	all := p.stdout.String() + p.stderr.String()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			all += string(b)
		}
	}
	for _, form := range []string{planted, escaped, url.QueryEscape(planted), "hunter2", "s3cr"} {
		require.NotContains(t, all, form)
	}
}

func TestAMalformedDSNIsNotShown(t *testing.T) {
	t.Parallel()
	rest := []string{"-table", "orders", "-key", "id", "-out", filepath.Join(t.TempDir(), "out"), "-once"}
	for _, dsn := range []string{
		"postgres://ada:" + planted + "@localhost/shop",
		"postgres://ada:" + escaped + "@localhost:port/shop",
		"postgresql://ada:" + escaped + "@localhost:99999/shop",
		"postgres://ada:" + escaped + "@localhost/shop?sslmode=perhaps",
		"postgres://ada:" + escaped + "@localhost/shop?sslrootcert=/nosuchfile&sslmode=verify-full",
		"postgres://ada@localhost/shop?connect_timeout=x&password=" + escaped,
		"postgres:ada:" + escaped + "@localhost/shop",
		"mysql://ada:" + planted + "@localhost/shop",
		"mysql://ada:" + escaped + "@localhost:port/shop",
		"mysql://ada:" + escaped + "@localhost/shop?parseTime=perhaps",
		"mysql://ada:" + planted + "@tcp(localhost",
		"ada:" + planted + "@tcp(localhost/shop",
		"ada:" + planted + "@tcp(localhost)shop",
		"ada:" + planted + "@localhost",
		"oracle://ada:" + escaped + "@localhost/shop",
		planted,
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "dsn")
			require.NoError(t, os.WriteFile(file, []byte(dsn), 0o600))
			for _, p := range []*process{
				run(t, nil, append([]string{"-dsn", dsn}, rest...)...),
				run(t, nil, append([]string{"-dsn-file", file}, rest...)...),
				run(t, []string{"DSN=" + dsn}, rest...),
			} {
				require.Equal(t, 2, p.code(), "%s", &p.stderr)
				require.Contains(t, p.stderr.String(), "the DSN (not shown)")
				keeps(t, p)
			}
		})
	}
}

func TestADSNInTheWrongPlaceIsNotShown(t *testing.T) {
	t.Parallel()
	url, own := "postgres://ada:"+escaped+"@localhost/shop", "ada:"+planted+"@tcp(localhost)/shop"
	others := []string{"oracle://ada:" + planted + "@localhost/shop", "postgres://localhost/shop?user=ada&password=" + escaped,
		"host=localhost user=ada password=" + planted, "host=localhost;user=ada;password=" + planted, "Server=db;User Id=ada;Password=" + planted,
		"ada:" + planted + "@(localhost)/shop", "ada:" + planted + "@/shop", "mysql:ada:" + planted + "@localhost"}
	rest := []string{"-dsn", "sqlite:nosuch", "-table", "orders", "-key", "id", "-out", filepath.Join(t.TempDir(), "out"), "-once"}
	for _, dsn := range others {
		for _, args := range [][]string{{"-log-level", dsn}, {"-table", dsn}, {"-out", dsn}} {
			p := run(t, nil, append(rest[:len(rest):len(rest)], args...)...)
			require.Equal(t, 2, p.code(), "%q: %s", args, &p.stderr)
			keeps(t, p)
		}
	}
	for _, dsn := range []string{url, own} {
		for _, args := range [][]string{
			{dsn}, {"-dns", dsn}, {"-dns=" + dsn}, {"--=" + dsn}, {"---dsn=" + dsn}, {"-once=" + dsn}, {"-batch", dsn},
			{"-interval=" + dsn}, {"-segment-age", dsn}, {"-segment-bytes", dsn}, {"-log-level", dsn}, {"-dsn-file", dsn},
			{"-listen", dsn}, {"-table", dsn}, {"-key", dsn}, {"-columns", dsn}, {"-out", dsn}, {"-name", dsn}, {"-start", dsn}, {"-format", dsn}, {"-log-format", dsn},
		} {
			p := run(t, nil, append(rest[:len(rest):len(rest)], args...)...)
			require.Equal(t, 2, p.code(), "%q: %s", args, &p.stderr)
			keeps(t, p)
		}
		for _, variable := range []string{"BATCH", "ONCE", "DSN_FILE", "TABLE", "LOG_LEVEL", "DNS"} {
			p := run(t, []string{variable + "=" + dsn}, rest[2:4]...)
			require.Equal(t, 2, p.code(), "%q: %s", variable, &p.stderr)
			keeps(t, p)
		}
	}
}

func TestAWrongPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	for name, db := range servers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "out")
			dsn := db.WithUser("dbtest", planted).DSN(db.Drivers()[0])
			p := run(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", dir, "-log-level", "debug")
			require.Equal(t, 1, p.code(), "%s", &p.stderr)
			require.Regexp(t, `dbtofile: poller: orders: fetch: .*(28P01|28000|1045)`, p.stderr.String())
			keeps(t, p, dir)
		})
	}
}

func TestAnUnreachableServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://ada:" + escaped + "@127.0.0.1:1/shop",
		"postgres://ada:" + escaped + "@nosuchhost.invalid/shop",
		"mysql://ada:" + escaped + "@127.0.0.1:1/shop",
		"mysql://ada:" + escaped + "@nosuchhost.invalid/shop",
		"ada:" + planted + "@tcp(127.0.0.1:1)/shop",
		"mysql://ada:" + planted + "@tcp(127.0.0.1:1)/shop",
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "out")
			p := start(t, []string{"DSN=" + dsn}, "-table", "orders", "-key", "id", "-out", dir, "-log-level", "debug")
			p.says("failing, will retry", 1)
			require.Equal(t, 1, strings.Count(p.stderr.String(), "failing"))
			p.stopsWell()
			keeps(t, p, dir)
		})
	}
}

// servers returns a database on each server, with an empty table orders.
func servers(t *testing.T) map[string]dbtest.Database {
	all := map[string]dbtest.Database{
		"Postgres": dbtest.Postgres(t).NewDatabase(t),
		"MariaDB":  dbtest.MariaDB(t).NewDatabase(t),
	}
	for name, d := range all {
		key := map[string]string{"Postgres": "GENERATED ALWAYS AS IDENTITY", "MariaDB": "AUTO_INCREMENT"}[name]
		d.Open(t, d.Drivers()[0]).MustExec(`CREATE TABLE orders (id bigint ` + key + ` PRIMARY KEY, name varchar(100) NOT NULL)`)
	}
	return all
}

// A condition on columns that are called like the parts of a DSN is not taken for one.
func TestAConditionIsNotADSN(t *testing.T) {
	t.Parallel()
	_, dsn := shop(t, 1)
	for _, where := range []string{"name = 'x' and id = 1", "id=1 and name='x'", "id in (1, 2)", "name='host=a'", "id=1 or id=2"} {
		p := run(t, nil, "-dsn", dsn, "-table", "orders", "-key", "id", "-out", t.TempDir(), "-once", "-where", where)
		require.Equal(t, 0, p.code(), "%s: %s", where, &p.stderr)
	}
}
