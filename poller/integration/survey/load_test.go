package survey

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// database is one that a schema is loaded into.
type database struct {
	*sqlx.DB
	engine string // postgres, mariadb or sqlite
	at     dbtest.Database
}

// open creates an empty database.
func open(t *testing.T, engine string) database {
	switch engine {
	case "postgres":
		at := dbtest.Postgres(t).NewDatabase(t)
		db := at.Open(t, dbtest.PGX)
		db.MustExec("ALTER SYSTEM SET wal_writer_delay = '10ms'") // rows wait until the log is on disk, table after table
		db.MustExec("SELECT pg_reload_conf()")
		return database{db, engine, at}
	case "mariadb":
		at := dbtest.MariaDB(t).NewDatabase(t)
		db := at.Open(t, dbtest.MySQL)
		return database{db, engine, at}
	}
	at := dbtest.SQLite(t)
	return database{at.Open(t, dbtest.Modernc), engine, at}
}

// run runs a script with the database's usual client. It returns the client's messages about
// failed statements. A strict script stops at the first one.
func (d database) run(t *testing.T, script string, strict bool) (problems []string) {
	if d.engine == "sqlite" {
		return d.runSQLite(script, strict)
	}
	var cmd *exec.Cmd
	dsn, err := url.Parse(d.at.DSN(dbtest.PGX))
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(dsn.Host)
	require.NoError(t, err)
	if d.engine == "postgres" {
		args := []string{"-X", "-q", "-o", os.DevNull, "-d", dsn.String()}
		if strict {
			args = append(args, "-v", "ON_ERROR_STOP=1")
		}
		cmd = exec.Command(tool(t, "psql", "postgresql-client"), args...)
	} else {
		args := []string{"--no-defaults", "-h", host, "-P", port, "-u", dsn.User.Username(), "--default-character-set=utf8mb4", d.at.Name()}
		if !strict {
			args = append([]string{"--no-defaults", "--force", "--init-command=SET foreign_key_checks=0"}, args[1:]...)
		}
		cmd = exec.Command(tool(t, "mariadb", "mariadb-client"), args...)
		cmd.Env = append(os.Environ(), "MYSQL_PWD="+d.at.Password())
	}
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "ERROR") || strings.Contains(line, "FATAL") {
			problems = append(problems, strings.TrimSpace(line))
		}
	}
	if err != nil && problems == nil {
		problems = append(problems, fmt.Sprintf("%v: %.300s", err, out))
	}
	return problems
}

// tool returns the path of a client. Without one the test fails in CI, and is skipped elsewhere.
func tool(t *testing.T, name, pkg string) string {
	own, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the one on PATH starts it by a script
	path, err := exec.LookPath(name)
	if len(own) > 0 {
		return own[len(own)-1]
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("no %s: install the package %s", name, pkg)
	} else if err != nil {
		t.Skipf("no %s: install the package %s", name, pkg)
	}
	return path
}

func (d database) runSQLite(script string, strict bool) (problems []string) {
	conn, err := d.Connx(context())
	if err != nil {
		return []string{err.Error()}
	}
	defer conn.Close()
	if strict {
		if _, err := conn.ExecContext(context(), script); err != nil {
			problems = append(problems, err.Error())
		}
		return problems
	}
	for _, statement := range split(script) {
		if _, err := conn.ExecContext(context(), statement); err != nil {
			problems = append(problems, fmt.Sprintf("%v: %.60q", err, statement))
		}
	}
	conn.ExecContext(context(), "COMMIT") //nolint:errcheck // there may be no transaction
	return problems
}

// split splits a script of SQLite into statements: a trigger ends with END and a semicolon.
func split(script string) (statements []string) {
	begin, quote := 0, byte(0)
	for i := 0; i < len(script); i++ {
		c := script[i]
		switch {
		case quote == '\n' && c == '\n', quote != 0 && quote != '\n' && c == quote:
			quote = 0
		case quote != 0:
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '-' && strings.HasPrefix(script[i:], "--"):
			quote = '\n'
		case c == '/' && strings.HasPrefix(script[i:], "/*"):
			if end := strings.Index(script[i:], "*/"); end > 0 {
				i += end + 1
			}
		case c == ';':
			text := strings.TrimSpace(script[begin:i])
			upper := strings.ToUpper(text)
			if isTrigger.MatchString(upper) && !strings.HasSuffix(upper, "END") {
				continue
			}
			if begin = i + 1; text != "" {
				statements = append(statements, text)
			}
		}
	}
	return append(statements, script[begin:])
}
