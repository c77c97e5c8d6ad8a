package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/internal/autoinc"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// myTable is what MySQL or MariaDB says of a table and of itself.
type myTable struct {
	server  myServer
	maria   bool
	version string
	vars    map[string]string

	schema, name, kind, engine, options string
	typ, fullType, extra                string // of the key's first column
	updated                             bool   // it changes by itself with each update
	index                               string // quoted: one that leads with it
	triggers                            []trigger
	last                                uint64
}

type trigger struct{ name, source string }

// openMySQL probes a table, and reports what it found.
func openMySQL(ctx context.Context, db ceiling.Queryer, t ceiling.Table, r *ceiling.Report) (*myTable, error) {
	switch {
	case t.SQL.Name() != name:
		r.Add(ceiling.Unsafe, "leave Ceiling nil for the one that fits", "it works on MySQL and MariaDB only, and this is %s", t.SQL.Name())
	case t.Name == "":
		r.Add(ceiling.Unsafe, "set the Query's field Table", "the table that has the key is not named")
	}
	if err := r.Err(t); err != nil {
		return nil, err
	}
	p := &myTable{}
	for _, read := range []func(context.Context, ceiling.Queryer, ceiling.Table) error{p.readServer, p.readTable, p.readIndex, p.readTriggers} {
		if err := read(ctx, db, t); err != nil {
			return nil, fmt.Errorf("reading what the database says of the table: %w", err)
		}
	}
	p.ofSession(r)
	if err := r.Err(t); err != nil {
		return nil, err // without autocommit, a locking read would go on locking
	}
	p.ofServer(r)
	if p.ofTable(r, t) {
		p.ofKey(r, t)
		if err := p.ofRows(ctx, db, r, t); err != nil {
			return nil, err
		}
	}
	if err := p.ofRights(ctx, db, r); err != nil {
		return nil, err
	}
	return p, r.Err(t)
}

func (p *myTable) readServer(ctx context.Context, db ceiling.Queryer, _ ceiling.Table) error {
	p.vars = map[string]string{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name, value string
		err := rows.Scan(&name, &value)
		p.vars[strings.ToLower(name)] = value
		return err
	}, `SHOW VARIABLES WHERE Variable_name IN ('version', 'autocommit', 'tx_isolation', 'transaction_isolation', 'auto_increment_increment', 'read_only', 'super_read_only',
		'sql_select_limit', 'sql_mode', 'innodb_read_only', 'wsrep_on', 'group_replication_group_name', 'innodb_flush_log_at_trx_commit', 'performance_schema')`)
	p.version = p.vars["version"]
	p.maria = strings.Contains(p.version, "MariaDB")
	p.server = newMyServer(p.version)
	return err
}

func (p *myTable) readTable(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	var schema any
	if len(t.Parts) > 1 {
		schema = t.Parts[len(t.Parts)-2]
	}
	p.name = t.Parts[len(t.Parts)-1]
	err := db.QueryRowContext(ctx, `SELECT TABLE_SCHEMA, TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(CREATE_OPTIONS, '') FROM information_schema.TABLES
		WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?`, schema, p.name).Scan(&p.schema, &p.kind, &p.engine, &p.options)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("there is no table %s, or it is temporary", t.Name)
	}
	if err == nil {
		err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			var value string
			err := rows.Scan(&p.typ, &p.fullType, &p.extra, &value)
			p.updated = strings.Contains(strings.ToLower(p.extra), "on update")
			return err
		}, `SELECT DATA_TYPE, COLUMN_TYPE, EXTRA, COALESCE(COLUMN_DEFAULT, '') FROM information_schema.COLUMNS
			WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLUMN_NAME = ?`, p.schema, p.name, t.Key[0].Name)
	}
	return err
}

// readIndex finds the index to read keys by, the primary key if that will do.
func (p *myTable) readIndex(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		if p.index == "" {
			p.index = "`" + strings.ReplaceAll(name, "`", "``") + "`"
		}
		return err
	}, `SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?
		AND SEQ_IN_INDEX = 1 AND COLUMN_NAME = ? AND INDEX_TYPE = 'BTREE' AND SUB_PART IS NULL ORDER BY INDEX_NAME <> 'PRIMARY', NON_UNIQUE, INDEX_NAME`, p.schema, p.name, t.Key[0].Name)
}

func (p *myTable) readTriggers(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		g := trigger{}
		err := rows.Scan(&g.name, &g.source)
		p.triggers = append(p.triggers, g)
		return err
	}, `SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ?
		AND EVENT_OBJECT_TABLE = ? AND ACTION_TIMING = 'BEFORE' AND EVENT_MANIPULATION = 'INSERT' ORDER BY 1`, p.schema, p.name)
}

// ofSession adds what is wrong with the session.
func (p *myTable) ofSession(r *ceiling.Report) {
	level := p.vars["transaction_isolation"]
	if level == "" {
		level = p.vars["tx_isolation"]
	}
	if text := sessionError(level, p.vars["autocommit"] == "ON", p.vars["sql_select_limit"] == noLimit); text != "" {
		r.Add(ceiling.Unsafe, "set autocommit=1, transaction_isolation='REPEATABLE-READ' and sql_select_limit=DEFAULT in the data source name", "%s", text)
	}
}

// ofServer adds what is to be said of the server, whatever the table.
func (p *myTable) ofServer(r *ceiling.Report) {
	if old := p.old(); old != "" {
		r.Add(ceiling.Unsafe, "upgrade the server to "+old+" or later", "this is version %s, whose AUTO_INCREMENT counter falls back at a restart, and draws numbers again", p.version)
	}
	if n := p.vars["auto_increment_increment"]; n != "1" {
		r.Add(ceiling.Unsafe, "SET GLOBAL auto_increment_increment = 1 where only one server is written to; or read each server by itself, with a key that this one draws", "auto_increment_increment is %s: several servers draw numbers in turn", n)
	}
	if p.vars["wsrep_on"] == "ON" {
		r.Add(ceiling.Unsafe, "read a server that is not part of the cluster", "wsrep_on is ON: rows come from the other servers of a Galera cluster in their own time")
	}
	if p.vars["group_replication_group_name"] != "" {
		r.Add(ceiling.Unsafe, "read a server that is not part of the group", "group replication is set up: rows come from the other members in their own time")
	}
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		if v := p.vars[name]; v != "" && v != "OFF" && v != "0" {
			r.Add(ceiling.Unsafe, "read from the primary; or, if this is the primary, SET GLOBAL "+name+" = OFF", "%s is %s: this is a replica, whose rows come in the order of the primary's commits, and not of its keys", name, v)
			break
		}
	}
	if n := p.vars["innodb_flush_log_at_trx_commit"]; n != "1" && n != "" {
		r.Add(ceiling.Warning, "SET GLOBAL innodb_flush_log_at_trx_commit = 1", "innodb_flush_log_at_trx_commit is %s: a crash can take back rows that were committed, and read", n)
	}
}

var versions = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)`)

// old returns the version from which on a counter survives a restart, if the
// server's is before it, or cannot be told.
func (p *myTable) old() string {
	first, want := [3]int{8, 0, 0}, "8.0"
	if p.maria {
		first, want = [3]int{10, 2, 4}, "10.2.4"
	}
	m := versions.FindStringSubmatch(strings.TrimPrefix(p.version, "5.5.5-")) // old replicas are told that MariaDB is 5.5.5
	if m == nil {
		return want
	}
	for i, n := range first {
		if have, _ := strconv.Atoi(m[i+1]); have != n {
			if have < n {
				return want
			}
			break
		}
	}
	return ""
}

// ofTable adds what kind of table it is, and reports whether it is worth going on.
func (p *myTable) ofTable(r *ceiling.Report, t ceiling.Table) bool {
	switch {
	case strings.Contains(p.kind, "VIEW"):
		r.Add(ceiling.Unsafe, fmt.Sprintf("use a Query with Select: \"SELECT ... FROM %s\" and with Table set to the table in it that has the key", t.Name),
			"%s is a view: whose rows are added how, and which table draws the key, cannot be seen from it", t.Label)
		return false
	case p.kind == "SYSTEM VERSIONED":
		r.Add(ceiling.Unsafe, "ALTER TABLE "+t.Name+" DROP SYSTEM VERSIONING", "the table is system-versioned: its rows are kept when they are deleted, and this was not looked into")
		return false
	case p.kind != "BASE TABLE":
		r.Add(ceiling.Unsafe, "poll a table that other sessions can see", "%s is no table that is kept, but a %s", t.Label, strings.ToLower(p.kind))
		return false
	case !strings.EqualFold(p.engine, "InnoDB"):
		r.Add(ceiling.Unsafe, "ALTER TABLE "+t.Name+" ENGINE = InnoDB", "the engine is %s: what it shows of rows that are not committed is not known", p.engine)
		return false
	}
	r.Add(ceiling.OK, "", "the engine is InnoDB")
	if strings.Contains(p.options, "partitioned") {
		r.Add(ceiling.OK, "", "the table is partitioned: its partitions draw from one counter, and are read together; a partition exchanged with rows in it is not seen (see Audit)")
	}
	return true
}

// ofKey adds whether the key is drawn, in order.
func (p *myTable) ofKey(r *ceiling.Report, t ceiling.Table) {
	column, bits := t.Key[0].Name, map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[p.typ]
	switch {
	case p.typ == "":
		r.Add(ceiling.Unsafe, "name a column of the table in Key", "the table has no column %q", column)
		return
	case p.typ == "timestamp" || p.typ == "datetime":
		what := "a time is set before its row is committed, by CURRENT_TIMESTAMP or a client"
		if p.updated {
			what = "ON UPDATE CURRENT_TIMESTAMP sets the time at which a statement began, also one that then waits for a lock"
		}
		r.Add(ceiling.Unsafe, "poll the AUTO_INCREMENT key for rows that are added; for changes of rows choose the ceiling lag by name, longer than any transaction is open",
			"the key begins with %q, a %s: %s, and rows commit in another order", column, p.typ, what)
		return
	case bits == 0 || !strings.Contains(strings.ToLower(p.extra), "auto_increment"):
		r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER TABLE %s ADD COLUMN _id bigint NOT NULL AUTO_INCREMENT UNIQUE; and then Key _id", t.Name),
			"%q is not AUTO_INCREMENT: its values, of the type %s, are made by clients or by a trigger, and no order of commits is known for them", column, p.typ)
		return
	case p.index == "":
		r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER TABLE %s ADD UNIQUE (%s)", t.Name, t.Key[0].Quoted), "no index begins with the key %q", column)
		return
	}
	if !strings.Contains(p.fullType, "unsigned") {
		bits--
	}
	p.last = 1<<bits - 1
	r.Add(ceiling.OK, "", "%q is AUTO_INCREMENT, and the index %s begins with it", column, p.index)
	r.Add(ceiling.Note, "", "the database lets clients give %q a value of their own: one below the greatest can be missed (see Audit)", column)
	sets := regexp.MustCompile(`(?i)\bNEW\s*\.\s*` + "`?" + regexp.QuoteMeta(column) + "`?" + `\s*:?=[^=]`)
	for _, g := range p.triggers {
		if sets.MatchString(g.source) {
			r.Add(ceiling.Unsafe, fmt.Sprintf("ALTER TABLE %s ADD COLUMN _id bigint NOT NULL AUTO_INCREMENT UNIQUE; and then Key _id", t.Name), "the trigger %s sets the key", g.name)
			continue
		}
		r.Add(ceiling.Note, "", "the trigger %s runs before each INSERT; it is taken to leave the key alone", g.name)
	}
}

// ofRows adds what only the rows and statements on them tell.
func (p *myTable) ofRows(ctx context.Context, db ceiling.Queryer, r *ceiling.Report, t ceiling.Table) error {
	if p.index == "" || p.last == 0 {
		return nil
	}
	var above bool
	from := " FROM " + t.Name + " FORCE INDEX (" + p.index + ") WHERE " + t.Key[0].Quoted
	err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1"+from+" > 9223372036854775807)").Scan(&above)
	if err != nil {
		return fmt.Errorf("reading the greatest key: %w", err)
	}
	if above {
		r.Add(ceiling.Unsafe, "leave them out of the table, or draw a key of its own for this", "there are keys above 9223372036854775807, which are not looked after")
	}
	if _, ok, err := autoinc.Read(ctx, db, t.Name); err != nil {
		return fmt.Errorf("reading the AUTO_INCREMENT counter: %w", err)
	} else if !ok {
		fix, why := "GRANT SELECT ON "+t.Name+" TO CURRENT_USER, as the owner of the table", ""
		if strings.Contains(p.vars["sql_mode"], "NO_TABLE_OPTIONS") {
			fix, why = "set sql_mode in the data source name to one without NO_TABLE_OPTIONS", ", since the session's sql_mode has NO_TABLE_OPTIONS"
		}
		r.Add(ceiling.Unsafe, fix, "SHOW CREATE TABLE does not show the AUTO_INCREMENT counter%s", why)
	}
	err = exec(ctx, db, "SELECT COUNT(*) FROM "+t.Name+" WHERE 1 = 0 "+p.server.share)
	switch autoinc.Number(err) {
	case 1142, 1143:
		r.Add(ceiling.Unsafe, "GRANT SELECT, LOCK TABLES for the table, or upgrade MySQL to 8.0.22", "the role may not use a locking read, which finds rows that a transaction has added and deleted")
		return nil
	}
	if err != nil && !isLocked(err) {
		return fmt.Errorf("trying a locking read: %w", err)
	}
	return nil
}

// ofRights adds whether all threads are shown, and their statements.
func (p *myTable) ofRights(ctx context.Context, db ceiling.Queryer, r *ceiling.Report) error {
	var connection int64
	var user string
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CURRENT_USER()").Scan(&connection, &user); err != nil {
		return err
	}
	name, host, _ := strings.Cut(user, "@")
	user = "'" + name + "'@'" + host + "'"
	_, err := p.server.statements(ctx, db, connection, nil)
	switch {
	case autoinc.Number(err) == 1227:
		r.Add(ceiling.Unsafe, "GRANT PROCESS ON *.* TO "+user, "the role lacks the privilege PROCESS, and sees its own user's threads only: statements of others could add rows unseen")
		return nil
	case errors.Is(err, errApplier):
		r.Add(ceiling.Unsafe, "read from the primary; or STOP SLAVE (STOP REPLICA) where this server is none", "a replication applier is running: it brings rows with keys that another server drew")
		return nil
	case err != nil:
		return err
	}
	with := p.server
	with.events = true
	var enabled string
	err = db.QueryRowContext(ctx, "SELECT ENABLED FROM performance_schema.setup_consumers WHERE NAME = 'events_statements_current'").Scan(&enabled)
	if err == nil && enabled == "YES" {
		if _, err = with.statements(ctx, db, connection, nil); err == nil {
			_, err = with.describe(ctx, db, nil)
		}
		if err == nil {
			p.server = with
			r.Add(ceiling.OK, "", "performance_schema tells each thread's statements apart")
			return nil
		}
	}
	level, fix := ceiling.Note, ""
	if !p.maria {
		level, fix = ceiling.Warning, "GRANT SELECT ON performance_schema.* TO "+user+", and turn the consumer events_statements_current on"
	}
	r.Add(level, fix, "performance_schema does not show which statements run: a thread is waited for until it is seen idle")
	return ctx.Err()
}
