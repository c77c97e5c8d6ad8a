package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// table is what the database says about a table and about itself.
type table struct {
	server  server
	maria   bool
	version string
	vars    map[string]string

	schema, name, kind, engine, options string
	typ, fullType, extra                string   // of the key's first column
	drawn                               string   // the AUTO_INCREMENT column; "" if it has none
	columns                             []string // all of them
	index, from                         string   // one that begins with the key's first column, quoted, and the table with it
	triggers                            []string // those that run before each INSERT
	last                                uint64   // the greatest number that the key's first column takes; 0: it is not drawn
}

// probe reads what the strategy must know about a table, and reports it.
func probe(ctx context.Context, db ceiling.Queryer, t ceiling.Table, r *ceiling.Report) (*table, error) {
	if err := r.Require(t, name); err != nil {
		return nil, err
	}
	p := &table{}
	for _, read := range []func(context.Context, ceiling.Queryer, ceiling.Table) error{p.readServer, p.readTable, p.readColumns, p.readIndex} {
		if err := read(ctx, db, t); err != nil {
			return nil, fmt.Errorf("reading what the database says about the table: %w", err)
		}
	}
	level := cmp.Or(p.vars["transaction_isolation"], p.vars["tx_isolation"])
	if wrong := sessionError(level, p.vars["autocommit"] == "ON", p.vars["sql_select_limit"] == noLimit); wrong != "" {
		r.Add(ceiling.Unsafe, ceiling.Advice("set autocommit=1, transaction_isolation='REPEATABLE-READ' and sql_select_limit=DEFAULT in the data source name"), "%s", wrong)
	}
	if err := r.Err(t); err != nil {
		return nil, err // without autocommit, a locking read would keep its locks
	}
	p.checkServer(r)
	p.checkTable(r, t)
	if err := p.checkRows(ctx, db, r, t); err != nil {
		return nil, err
	}
	if err := p.checkRights(ctx, db, r); err != nil {
		return nil, err
	}
	return p, r.Err(t)
}

func (p *table) readServer(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	p.vars = map[string]string{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name, value string
		err := rows.Scan(&name, &value)
		p.vars[strings.ToLower(name)] = value
		return err
	}, `SHOW VARIABLES WHERE Variable_name IN ('version', 'autocommit', 'tx_isolation', 'transaction_isolation', 'auto_increment_increment', 'read_only', 'super_read_only',
		'sql_select_limit', 'innodb_read_only', 'wsrep_on', 'group_replication_group_name', 'innodb_flush_log_at_trx_commit')`)
	p.version = p.vars["version"]
	p.maria = strings.Contains(p.version, "MariaDB")
	p.server = newServer(p.version)
	return err
}

func (p *table) readTable(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	p.name = t.Parts[len(t.Parts)-1]
	err := db.QueryRowContext(ctx, `SELECT TABLE_SCHEMA, TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(CREATE_OPTIONS, '')
		FROM information_schema.TABLES WHERE `+isTable(t.Parts)).Scan(&p.schema, &p.kind, &p.engine, &p.options)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("the table %s does not exist, or it is temporary", t.Name)
	}
	return err
}

func (p *table) readColumns(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var column, typ, fullType, extra string
		if err := rows.Scan(&column, &typ, &fullType, &extra); err != nil {
			return err
		}
		p.columns = append(p.columns, column)
		extra = strings.ToLower(extra)
		if strings.Contains(extra, "auto_increment") {
			p.drawn = column
		}
		if strings.EqualFold(column, t.Key[0].Name) {
			p.typ, p.fullType, p.extra = typ, fullType, extra
		}
		return nil
	}, `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`, p.schema, p.name)
}

// readIndex finds the index to read keys by, preferably the primary key, and the triggers.
func (p *table) readIndex(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	names, err := ceiling.Texts(ctx, db, `SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?
		AND SEQ_IN_INDEX = 1 AND COLUMN_NAME = ? AND INDEX_TYPE = 'BTREE' AND SUB_PART IS NULL ORDER BY INDEX_NAME <> 'PRIMARY', NON_UNIQUE, INDEX_NAME`, p.schema, p.name, t.Key[0].Name)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		p.index = quote(names[0])
		p.from = t.Name + " FORCE INDEX (" + p.index + ")"
	}
	p.triggers, err = ceiling.Texts(ctx, db, `SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ?
		AND EVENT_OBJECT_TABLE = ? AND ACTION_TIMING = 'BEFORE' AND EVENT_MANIPULATION = 'INSERT' ORDER BY 1`, p.schema, p.name)
	return err
}

// readCounter returns the number that AUTO_INCREMENT draws next in a table, if it has drawn none
// since. ok is false if the table has no such counter, or the role may not see the table.
//
// The second column says for how long MySQL 8 may cache the counter; DESIGN-ceilings.md explains
// that. MariaDB skips comments for versions of MySQL.
func readCounter(ctx context.Context, db ceiling.Queryer, parts []string) (next uint64, ok bool, err error) {
	statement := "SELECT AUTO_INCREMENT, 0 /*!80003 + @@session.information_schema_stats_expiry */ FROM information_schema.TABLES WHERE " + isTable(parts)
	for round := range 2 {
		var next sql.Null[uint64]
		var expiry int64
		err := db.QueryRowContext(ctx, statement).Scan(&next, &expiry)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return 0, false, nil
		case err != nil:
			return 0, false, fmt.Errorf("reading the AUTO_INCREMENT counter: %w", err)
		case expiry == 0:
			return next.V, next.Valid, nil
		case round == 0:
			if err := exec(ctx, db, "SET SESSION information_schema_stats_expiry = 0"); err != nil {
				return 0, false, fmt.Errorf("switching off the cache of information_schema: %w", err)
			}
		}
	}
	return 0, false, errSpread
}

// isTable is the condition for a table's rows in information_schema. With literals the server
// opens that table alone. With arguments the statement would be prepared first, which takes two
// more round trips.
func isTable(parts []string) string {
	schema := "DATABASE()"
	if len(parts) > 1 {
		schema = literal(parts[len(parts)-2])
	}
	return "TABLE_SCHEMA = " + schema + " AND TABLE_NAME = " + literal(parts[len(parts)-1])
}

// literal writes a string.
func literal(s string) string {
	if strings.ContainsAny(s, `'\`) { // what a backslash means depends on sql_mode
		return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'"
	}
	return "'" + s + "'"
}
