package snapshot

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// sqlite begins its snapshot with the first read of a transaction.
type sqlite struct{}

func (sqlite) prepare(context.Context, ceiling.Queryer, []*table) ([]string, error) {
	return []string{"BEGIN"}, nil
}

func (sqlite) refused(err error) error { return err }

func (sqlite) begun(ctx context.Context, db ceiling.Queryer, _ []*table) (warning string, err error) {
	var mode string
	if err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(new(int)); err == nil {
		err = db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
	}
	if err != nil {
		return "", err
	}
	if mode != "wal" && mode != "memory" {
		warning = "writers wait until the snapshot ends, because the database's journal mode is " + mode + " and not WAL"
	}
	return warning, nil
}

func (sqlite) end() []string      { return []string{"ROLLBACK"} }
func (sqlite) goOn() string       { return "SELECT 1" }
func (sqlite) lost(error) bool    { return false }
func (sqlite) aborted(error) bool { return false }

func (sqlite) stream() []string { return nil }

// describe uses the key in whose order the table is stored: that of a table WITHOUT ROWID, and INTEGER PRIMARY KEY. Another
// primary key can hold NULL, and VACUUM changes the rowid.
func (sqlite) describe(ctx context.Context, db ceiling.Queryer, t *table) error {
	schema, name := "", t.parts[len(t.parts)-1]
	if len(t.parts) > 1 {
		schema = t.parts[0]
	}
	t.shown = t.Name
	var kind string
	var without, own bool
	err := db.QueryRowContext(ctx, `SELECT l.schema, l.name, l.type, l.wr, EXISTS (SELECT 1 FROM pragma_index_list(l.name, l.schema) WHERE origin = 'pk')
		FROM pragma_table_list(?) AS l JOIN pragma_database_list AS d ON d.name = l.schema
		WHERE ? IN ('', l.schema COLLATE NOCASE) ORDER BY d.name <> 'temp', d.seq LIMIT 1`, name, schema).Scan(&schema, &name, &kind, &without, &own)
	if errors.Is(err, sql.ErrNoRows) { // it can be a function of a module
		return nil
	}
	if err != nil || kind != "table" {
		return err
	}
	types := map[string]string{}
	var key []string
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var column, typ string
		err := rows.Scan(&column, &typ)
		types[column] = typ
		key = append(key, column)
		return err
	}, `SELECT name, type FROM pragma_table_xinfo(?, ?) WHERE pk > 0 ORDER BY pk`, name, schema)
	number := len(key) == 1 && !without && !own && strings.EqualFold(types[key[0]], "INTEGER")
	if err == nil && number {
		err = db.QueryRowContext(ctx, "SELECT coalesce(max("+dialect.QuoteWith(`"`, key[0])+"), 0) FROM "+t.quoted).Scan(&t.estimate)
	}
	if t.Key == nil && (number || without) {
		t.key = key
	}
	return err
}
