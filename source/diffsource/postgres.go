package diffsource

import (
	"context"
	"database/sql"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// beginPostgres begins a transaction whose moment is taken after the tables are locked: TRUNCATE, and an ALTER TABLE
// that rewrites a table, put its rows where an older moment does not see them. LOCK TABLE takes no moment.
func beginPostgres(ctx context.Context, db ceiling.Queryer, d dialect.Dialect, t *sqlsource.Table) error {
	touch, err := touchOf(d, t)
	if err != nil {
		return err
	}
	lock, err := locked(ctx, db, touch)
	if err != nil {
		return err
	}
	statements := []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}
	if lock != nil {
		statements = append(statements, "LOCK TABLE "+strings.Join(lock, ", ")+" IN ACCESS SHARE MODE")
	}
	if err := execAll(ctx, db, append(statements, touch)...); err != nil { // touch locks what LOCK TABLE cannot
		return err
	}
	var standby bool
	if err := db.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err
	}
	if standby { // a conflict with the primary must end the transaction, and not a subtransaction
		return nil
	}
	return ceiling.Exec(ctx, db, "SAVEPOINT "+dialect.Savepoint)
}

// touchOf returns a statement that reads no rows and takes the locks of one that reads the table.
func touchOf(d dialect.Dialect, t *sqlsource.Table) (string, error) {
	from := "(" + strings.TrimRight(t.Select, "; \t\r\n") + "\n) AS t" // the last line may end in a comment
	if t.Select == "" {
		parts, err := dialect.SplitName(t.Name)
		if err != nil {
			return "", err
		}
		from = dialect.QuoteAll(d, parts) + " AS t"
	}
	touch := "SELECT FROM " + from + " WHERE false"
	if strings.TrimSpace(t.Where) != "" {
		touch += " AND (" + t.Where + "\n)"
	}
	return touch, nil
}

// locked returns the names of what a statement locks and LOCK TABLE can lock. Of a view these include its tables.
func locked(ctx context.Context, db ceiling.Queryer, statement string) (names []string, err error) {
	if err := execAll(ctx, db, "BEGIN READ ONLY", statement); err != nil {
		return nil, err
	}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_locks l
		JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = current_database()
		JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'v')
			AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	return names, ceiling.Exec(ctx, db, "ROLLBACK")
}

func execAll(ctx context.Context, db ceiling.Queryer, statements ...string) error {
	for _, statement := range statements {
		if err := ceiling.Exec(ctx, db, statement); err != nil {
			return err
		}
	}
	return nil
}
