package snapshot

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// mysql begins its snapshot with one statement. It locks no table: a table that is altered or emptied before its
// first row is read is an error, after which a new snapshot begins.
type mysql struct{}

func (mysql) prepare(context.Context, ceiling.Queryer, []*table) ([]string, error) {
	return []string{
		"SET SESSION net_write_timeout = 31536000", // a stream waits for its reader
		"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
	}, nil
}

func (mysql) refused(err error) error { return err }

func (mysql) begun(ctx context.Context, db ceiling.Queryer, _ []*table) (string, error) {
	return "", ceiling.Exec(ctx, db, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
}

func (mysql) end() []string {
	return []string{"ROLLBACK", "SET SESSION net_write_timeout = DEFAULT"}
}

func (mysql) goOn() string { return "SELECT 1" }

// lost is true after "Table definition has changed, please retry transaction" and a deadlock.
func (mysql) lost(err error) bool {
	n := dberr.MySQLNumber(err)
	return n == 1412 || n == 1213
}

func (mysql) aborted(error) bool { return false }

func (mysql) stream() []string { return nil }

// describe finds the first unique B-tree of columns that are not NULL, all ascending and whole.
func (mysql) describe(ctx context.Context, db ceiling.Queryer, t *table) error {
	schema := "DATABASE()"
	if len(t.parts) > 1 {
		schema = literal(t.parts[0])
	}
	is := "TABLE_SCHEMA = " + schema + " AND TABLE_NAME = " + literal(t.parts[len(t.parts)-1])
	var kind, engine, transactions string
	err := db.QueryRowContext(ctx, "SELECT TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(TABLE_ROWS, 0), COALESCE((SELECT e.TRANSACTIONS FROM information_schema.ENGINES AS e WHERE e.ENGINE = t.ENGINE), '')"+
		" FROM information_schema.TABLES AS t WHERE "+is).Scan(&kind, &engine, &t.estimate, &transactions)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return permanent("the table %s does not exist, or the role may not read it", t.Name)
	case err != nil:
		return err
	case transactions == "NO":
		t.inconsistent = engine
	}
	t.shown = t.Name
	if t.Key != nil || strings.HasSuffix(kind, "VIEW") {
		return nil
	}
	t.key, err = ceiling.Texts(ctx, db, "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE "+is+" AND INDEX_NAME = (SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE "+is+
		" GROUP BY INDEX_NAME HAVING MIN(NON_UNIQUE = 0 AND NULLABLE = '' AND SUB_PART IS NULL AND COLLATION <=> 'A' AND INDEX_TYPE = 'BTREE' AND COLUMN_NAME IS NOT NULL) = 1"+
		" ORDER BY INDEX_NAME = 'PRIMARY' DESC, COUNT(*), INDEX_NAME LIMIT 1) ORDER BY SEQ_IN_INDEX")
	return err
}

// literal writes a string without regard to NO_BACKSLASH_ESCAPES.
func literal(s string) string {
	if s == "" {
		return "''"
	}
	return fmt.Sprintf("CONVERT(x'%x' USING utf8mb4)", s)
}
