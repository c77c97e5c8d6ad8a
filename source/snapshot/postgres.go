package snapshot

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// postgres begins its snapshot with a lock on each table, as pg_dump does: TRUNCATE, and an ALTER TABLE that
// rewrites a table, empty it for the snapshots of others. LOCK TABLE itself takes no snapshot.
type postgres struct{ standby bool }

func (*postgres) prepare(ctx context.Context, db ceiling.Queryer, tables []*table) ([]string, error) {
	var lock []string
	for _, t := range tables {
		if t.Select != "" {
			continue
		}
		var kind, name string
		var may, some bool
		err := db.QueryRowContext(ctx, `SELECT c.relkind::text, format('%I.%I', n.nspname, c.relname), has_table_privilege(c.oid, 'SELECT'), has_any_column_privilege(c.oid, 'SELECT')
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)`, t.quoted).Scan(&kind, &name, &may, &some)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil, permanent("the table %s does not exist", t.Name)
		case err != nil:
			return nil, fmt.Errorf("snapshot: %s: reading what the database says about the table: %w", t.Name, err)
		case !some:
			return nil, permanent("the role may not read %s: GRANT SELECT ON %s", t.Name, name)
		case may && strings.Contains("rpv", kind):
			lock = append(lock, name)
		default:
			t.touch = true
		}
	}
	begin := []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}
	if lock != nil {
		begin = append(begin, "LOCK TABLE "+strings.Join(lock, ", ")+" IN ACCESS SHARE MODE")
	}
	return begin, nil
}

var errPooler = errors.New("a transaction ends after one statement: the connection leads to a pooler with pool_mode = statement; use pool_mode = transaction or session")

// refused recognises the error of PgBouncer. lib/pq returns that of a connection that has ended for any reason.
func (*postgres) refused(err error) error {
	switch {
	case dberr.SQLState(err) == "08P01":
		return permanent("%w: %w", errPooler, err)
	case errors.Is(err, driver.ErrBadConn):
		return fmt.Errorf("snapshot: the connection ended when the transaction began: %w; if it does so again, see whether %w", err, errPooler)
	}
	return err
}

func (p *postgres) begun(ctx context.Context, db ceiling.Queryer, tables []*table) (string, error) {
	var level string
	if err := db.QueryRowContext(ctx, "SELECT current_setting('transaction_isolation'), pg_is_in_recovery()").Scan(&level, &p.standby); err != nil {
		return "", err
	}
	if level != "repeatable read" {
		return "", permanent("%w", errPooler)
	}
	for _, t := range tables {
		if t.touch { // a lock that LOCK TABLE cannot take
			if err := ceiling.Exec(ctx, db, "SELECT FROM "+t.quoted+" WHERE false"); err != nil && t.Columns == nil {
				return "", fmt.Errorf("snapshot: %s: %w", t.Name, err)
			}
		}
	}
	if p.standby { // a conflict with the primary must end the session, and not a subtransaction
		return "", nil
	}
	return "", ceiling.Exec(ctx, db, "SAVEPOINT "+dialect.Savepoint)
}

func (*postgres) end() []string { return []string{"ROLLBACK"} }

func (p *postgres) goOn() string {
	if p.standby {
		return "SELECT 1"
	}
	return "ROLLBACK TO SAVEPOINT " + dialect.Savepoint
}

// lost is true after a conflict with recovery on a standby, and on servers with old_snapshot_threshold.
func (*postgres) lost(err error) bool {
	state := dberr.SQLState(err)
	return state == "40001" || state == "72000"
}

func (*postgres) aborted(err error) bool { return dberr.SQLState(err) == "25P02" }

func (*postgres) stream() []string {
	return []string{"SET LOCAL statement_timeout = 0", "SET LOCAL max_parallel_workers_per_gather = 0", "SET LOCAL synchronize_seqscans = off"}
}

// describe finds the first unique index of columns that are NOT NULL, in whose order the rows can be read: without
// a condition, expression, other collation or operator class, and with all columns in one direction.
// The key of a table with children is not unique among their rows, unless they are partitions.
func (*postgres) describe(ctx context.Context, db ceiling.Queryer, t *table) error {
	var schema, relation string
	var keyed, foreign bool
	err := db.QueryRowContext(ctx, `WITH RECURSIVE tree(oid) AS (
			SELECT to_regclass($1::text)::oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
		) SELECT n.nspname, c.relname, c.relkind = 'p' OR c.relkind = 'r' AND (SELECT count(*) FROM tree) = 1,
			COALESCE((SELECT sum(GREATEST(l.reltuples, 0)) FROM tree JOIN pg_catalog.pg_class l ON l.oid = tree.oid AND l.relkind <> 'p'), 0)::bigint,
			EXISTS (SELECT FROM tree JOIN pg_catalog.pg_class l ON l.oid = tree.oid AND l.relkind = 'f')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)`, t.quoted).
		Scan(&schema, &relation, &keyed, &t.estimate, &foreign)
	if err != nil {
		return err
	}
	if t.shown = shownName(schema, relation); foreign { // its server has another moment, or none
		t.inconsistent = "foreign"
	}
	if t.Key != nil || !keyed {
		return nil
	}
	t.key, err = ceiling.Texts(ctx, db, `SELECT a.attname::text FROM (
			SELECT i.indkey, i.indnkeyatts FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
			WHERE i.indrelid = to_regclass($1::text) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
				AND NOT EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS k
					JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k]
					WHERE NOT a.attnotnull OR a.attcollation <> i.indcollation[k] OR NOT o.opcdefault OR (i.indoption[k] & 1) <> (i.indoption[0] & 1))
			ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1
		) AS i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS k
		JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass($1::text) AND a.attnum = i.indkey[k] ORDER BY k`, t.quoted)
	return err
}
