package outages

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/retry"
)

func TestRetrySQLite(t *testing.T) {
	t.Parallel()
	const table = "create table t (id integer primary key, n integer check (n < 100), s text not null default '' unique)"
	// at opens a file with parameters, in the form that both drivers accept.
	at := func(path, parameters string, then ...string) func(*testing.T, dbtest.Database, dbtest.Driver) error {
		return func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x, err := sqlx.Open(d.SQLName(), "file:"+strings.ReplaceAll(path, "DB", db.Name())+parameters)
			require.NoError(t, err)
			defer x.Close()
			for _, s := range then {
				if _, err := x.Exec(s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, f := range []failure{
		{"missing table", retry.Setup, "SQLite error 1 (ERROR): no such table: absent", false, statements("select * from absent")},
		{"missing column", retry.Setup, "SQLite error 1 (ERROR): no such column: absent", false, statements(table, "select absent from t")},
		{"missing column to insert", retry.Setup, "SQLite error 1 (ERROR): table t has no column named absent", false, statements(table, "insert into t (absent) values (1)")},
		{"missing function", retry.Setup, "SQLite error 1 (ERROR): no such function: absent", false, statements("select absent(1)")},
		{"syntax error", retry.Setup, `SQLite error 1 (ERROR): near "FORM": syntax error`, false, statements("select * FORM t where s = '" + secret + "'")},
		{"syntax error at a value", retry.Setup, "SQLite error 1 (ERROR)", true, statements("select 1 from t where '" + secret + "' '" + secret + "'")},
		{"JSON path", retry.Setup, "SQLite error 1 (ERROR)", true, statements("select json_extract('{}', '" + secret + "')")},
		{"unique violation", retry.Data, "SQLite error 2067 (CONSTRAINT): UNIQUE constraint failed: t.s", false,
			statements(table, "insert into t values (1, 1, '"+secret+"')", "insert into t values (2, 1, '"+secret+"')")},
		{"primary key", retry.Data, "SQLite error 1555 (CONSTRAINT): UNIQUE constraint failed: t.id", false,
			statements(table, "insert into t values (1, 1, 'a')", "insert into t values (1, 1, 'b')")},
		{"check violation", retry.Data, "SQLite error 275 (CONSTRAINT): CHECK constraint failed: n", false, statements(table, "insert into t values (1, 100, 'a')")},
		{"null", retry.Data, "SQLite error 1299 (CONSTRAINT): NOT NULL constraint failed: t.s", false, statements(table, "insert into t values (1, 1, null)")},
		{"foreign key", retry.Data, "SQLite error 787 (CONSTRAINT): FOREIGN KEY constraint failed", false,
			statements("pragma foreign_keys = on", table, "create table u (s text references t (s))", "insert into u values ('"+secret+"')")},
		{"raised", retry.Data, "SQLite error 1811 (CONSTRAINT)", true,
			statements(table, "create trigger refuse before insert on t begin select raise(abort, '"+secret+"'); end", "insert into t values (1, 1, 'a')")},
		{"mismatch", retry.Data, "SQLite error 20 (MISMATCH)", false, statements(table, "insert into t values ('"+secret+"', 1, 'a')")},
		{"too big", retry.Data, "SQLite error 18 (TOOBIG)", false, statements(table, "insert into t values (1, 1, zeroblob(2000000000))")},
		{"scan", retry.Transient, "value not shown", true, scanned},
		{"full", retry.Transient, "SQLite error 13 (FULL)", false,
			statements(table, "pragma max_page_count = 5", "insert into t values (1, 1, zeroblob(100000))")},
		{"disk full", retry.Transient, "SQLite error ", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			// FULL, or IOERR if the shared-memory file finds no space.
			return at(filepath.Join(tmpfs(t), "test.db"), "", table, "insert into t values (1, 1, zeroblob(10000000))")(t, db, d)
		}},
		{"no directory", retry.Setup, "(CANTOPEN)", false, at("DB-absent/test.db", "", table)},
		{"read-only", retry.Setup, "SQLite error 8 (READONLY)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			require.NoError(t, at("DB", "", table)(t, db, d))
			return at("DB", "?mode=ro", "insert into t values (1, 1, 'a')")(t, db, d)
		}},
		{"no database", retry.Setup, "SQLite error 26 (NOTADB)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			require.NoError(t, os.WriteFile(db.Name(), []byte(strings.Repeat(secret, 1000)), 0o600))
			return at("DB", "", "select * from sqlite_schema")(t, db, d)
		}},
		{"corrupt", retry.Setup, "(CORRUPT)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			require.NoError(t, at("DB", "", table, "insert into t values (1, 1, 'a')")(t, db, d))
			file, err := os.ReadFile(db.Name())
			require.NoError(t, err)
			for i := 4096; i < len(file); i++ { // keeps the page with the schema
				file[i] = 0xff
			}
			require.NoError(t, os.WriteFile(db.Name(), file, 0o600))
			return at("DB", "", "insert into t values (2, 1, 'b')")(t, db, d)
		}},
		{"busy", retry.Transient, "SQLite error 5 (BUSY)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			holder, err := x.Connx(t.Context())
			require.NoError(t, err)
			defer holder.Close()
			_, err = holder.ExecContext(t.Context(), "begin immediate")
			require.NoError(t, err)
			defer func() { _, _ = holder.ExecContext(t.Context(), "rollback") }()
			return at("DB", "?_pragma=busy_timeout(0)", "insert into t values (1, 1, 'a')")(t, db, d)
		}},
		{"stale snapshot", retry.Transient, "SQLite error 517 (BUSY)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			reader, err := x.Connx(t.Context())
			require.NoError(t, err)
			defer reader.Close()
			defer func() { _, _ = reader.ExecContext(t.Context(), "rollback") }()
			_, err = reader.ExecContext(t.Context(), "begin deferred") // ncruces starts immediate transactions by default
			require.NoError(t, err)
			var n int
			require.NoError(t, reader.GetContext(t.Context(), &n, "select count(*) from t"))
			x.MustExec("insert into t values (1, 1, 'a')")
			_, err = reader.ExecContext(t.Context(), "insert into t values (2, 1, 'b')")
			return err
		}},
		{"locked", retry.Transient, "SQLite error 6 (LOCKED)", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			x := db.Open(t, d)
			x.MustExec(table)
			x.MustExec("insert into t values (1, 1, 'a'), (2, 2, 'b')")
			tx := x.MustBegin()
			defer tx.Rollback()
			rows, err := tx.Query("select * from t")
			require.NoError(t, err)
			defer rows.Close()
			require.True(t, rows.Next())
			require.NoError(t, rows.Err())
			_, err = tx.Exec("drop table t")
			return err
		}},
		{"context deadline", retry.Transient, "", false, func(t *testing.T, db dbtest.Database, d dbtest.Driver) error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := db.Open(t, d).ExecContext(ctx, "with recursive r(i) as (select 1 union all select i + 1 from r) select max(i) from r")
			return err
		}},
	} {
		f.check(t, dbtest.SQLite, dbtest.Modernc, dbtest.NCruces)
	}
}
