package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// table is what the database says about a table and about itself.
type table struct {
	server  server
	maria   bool
	version string
	vars    map[string]string

	kind, engine, options string
	typ, fullType, extra  string   // of the key's first column
	drawn                 string   // the AUTO_INCREMENT column; "" if it has none
	columns               []string // all of them
	index, from           string   // one that begins with the key's first column, quoted, and the table with it
	triggers              []string // those that run before each INSERT
	last                  uint64   // the greatest number that the key's first column takes; 0: it is not drawn
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
		r.Add(ceiling.Unsafe, sessionAdvice(), "%s", wrong)
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
	p.server = server{level: "@@session.transaction_isolation", share: "FOR SHARE NOWAIT"}
	if p.maria = strings.Contains(p.version, "MariaDB"); p.maria {
		p.server = server{level: "@@session.tx_isolation", share: "LOCK IN SHARE MODE NOWAIT"}
	}
	return err
}

func (p *table) readTable(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	err := db.QueryRowContext(ctx, `SELECT TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(CREATE_OPTIONS, '')
		FROM information_schema.TABLES WHERE `+isTable(t.Parts)).Scan(&p.kind, &p.engine, &p.options)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("the table %s does not exist, or it is temporary", t.Name)
	}
	return err
}

func (p *table) readColumns(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	return ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var column, typ, fullType, extra string
		err := rows.Scan(&column, &typ, &fullType, &extra)
		p.columns = append(p.columns, column)
		if strings.Contains(extra, "auto_increment") {
			p.drawn = column
		}
		if strings.EqualFold(column, t.Key[0].Name) {
			p.typ, p.fullType, p.extra = typ, fullType, extra
		}
		return err
	}, "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, LOWER(EXTRA) FROM information_schema.COLUMNS WHERE "+isTable(t.Parts))
}

// readIndex finds the index to read keys by, preferably the primary key, and the triggers.
func (p *table) readIndex(ctx context.Context, db ceiling.Queryer, t ceiling.Table) error {
	names, err := ceiling.Texts(ctx, db, `SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE `+isTable(t.Parts)+`
		AND SEQ_IN_INDEX = 1 AND COLUMN_NAME = ? AND INDEX_TYPE = 'BTREE' AND SUB_PART IS NULL
		/*!80000 AND IS_VISIBLE = 'YES' */ /*M!100600 AND IGNORED = 'NO' */ ORDER BY INDEX_NAME <> 'PRIMARY', NON_UNIQUE, INDEX_NAME`, t.Key[0].Name)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		p.index = quote(names[0])
		p.from = t.Name + " FORCE INDEX (" + p.index + ")"
	}
	p.triggers, err = ceiling.Texts(ctx, db, `SELECT TRIGGER_NAME FROM information_schema.TRIGGERS
		WHERE (EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE) IN (SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE `+isTable(t.Parts)+`)
		AND ACTION_TIMING = 'BEFORE' AND EVENT_MANIPULATION = 'INSERT' ORDER BY 1`)
	return err
}

// readCounter returns the number that AUTO_INCREMENT draws next in a table, if it has drawn none
// since. ok is false if the table has no such counter, or the role may not see the table. The second
// column says for how long MySQL caches the counter (see DESIGN-ceilings.md). MariaDB skips it. The
// statement also selects more, into dest.
func readCounter(ctx context.Context, db ceiling.Queryer, parts []string, more string, dest ...any) (next uint64, ok bool, err error) {
	var number sql.Null[uint64]
	var expiry int64
	read := func() error {
		return db.QueryRowContext(ctx, "SELECT AUTO_INCREMENT, 0 /*!80003 + @@session.information_schema_stats_expiry */"+more+" FROM information_schema.TABLES WHERE "+isTable(parts)).
			Scan(append([]any{&number, &expiry}, dest...)...)
	}
	if err = read(); err == nil && expiry != 0 {
		if err = ceiling.Exec(ctx, db, "SET SESSION information_schema_stats_expiry = 0"); err == nil {
			err = read()
		}
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("reading the AUTO_INCREMENT counter: %w", err)
	case expiry != 0:
		return 0, false, errSpread
	}
	return number.V, number.Valid, nil
}

// isTable is the condition for a table's rows in information_schema. With literals the server opens
// that table alone, and the statement need not be prepared first, in two more round trips.
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

// checkServer adds what matters about the server, whatever the table.
func (p *table) checkServer(r *ceiling.Report) {
	want := p.tooOld()
	r.AddIf(want != "", ceiling.Unsafe, ceiling.Advice("upgrade the server to "+want+" or later"), "this is version %s, whose AUTO_INCREMENT counter falls back at a restart and then draws numbers again", p.version)
	increment := p.vars["auto_increment_increment"]
	remedies := ceiling.Advice("if only this server is written to, let it draw every number", "SET GLOBAL auto_increment_increment = 1;")
	r.AddIf(increment != "1", ceiling.Unsafe, append(remedies, ceiling.Remedy{Words: "read each server separately, by a key that only this server draws"}),
		"auto_increment_increment is %s: several servers draw numbers in turn", increment)
	p.checkPrimary(r)
	flush := p.vars["innodb_flush_log_at_trx_commit"]
	r.AddIf(flush != "1" && flush != "", ceiling.Warning, ceiling.Advice("write each commit to disk, which makes commits slower", "SET GLOBAL innodb_flush_log_at_trx_commit = 1;"),
		"innodb_flush_log_at_trx_commit is %s: a crash can take back rows that were committed and read", flush)
}

// checkPrimary adds that rows come from other servers, however their keys are made.
func (p *table) checkPrimary(r *ceiling.Report) {
	r.AddIf(p.vars["wsrep_on"] == "ON", ceiling.Unsafe, ceiling.Advice("read a server that is not part of the cluster"),
		"wsrep_on is ON: rows come from the other servers of a Galera cluster, and not in the order of their keys")
	r.AddIf(p.vars["group_replication_group_name"] != "", ceiling.Unsafe, ceiling.Advice("read a server that is not part of the group"),
		"group replication is set up: rows come from the other members, and not in the order of their keys")
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		value := p.vars[name]
		r.AddIf(value != "" && value != "OFF" && value != "0", ceiling.Unsafe, ceiling.Advice("read from the primary; if this is the primary, set "+name+" to OFF"),
			"%s is %s: this is a replica, whose rows come in the order of the primary's commits, not of its keys", name, value)
	}
}

// tooOld returns the first version whose counter survives a restart, if the server's version
// is older or unknown.
func (p *table) tooOld() string {
	first := "8.0.0"
	if p.maria {
		first = "10.2.4"
	}
	numbers := func(version string) []int {
		var n [3]int
		fmt.Sscanf(version, "%d.%d.%d", &n[0], &n[1], &n[2]) //nolint:errcheck // an unknown version is older than any
		return n[:]
	}
	if slices.Compare(numbers(strings.TrimPrefix(p.version, "5.5.5-")), numbers(first)) < 0 { // MariaDB tells old replicas that it is 5.5.5
		return first
	}
	return ""
}

// checkTable adds what kind of table it is and, if that fits, whether AUTO_INCREMENT draws the key.
func (p *table) checkTable(r *ceiling.Report, t ceiling.Table) {
	switch {
	case strings.Contains(p.kind, "VIEW"):
		r.Add(ceiling.Unsafe, ceiling.Advice(fmt.Sprintf("use a Query with Select: \"SELECT ... FROM %s\" and with Table set to the table in it that has the key", t.Name)),
			"%s is a view, which does not show how rows are added, nor which table draws the key", t.Label)
	case p.kind == "SYSTEM VERSIONED":
		r.Add(ceiling.Unsafe, ceiling.Advice("read a table that is not system-versioned, such as one that a trigger fills"), "the table is system-versioned: it keeps rows when they are deleted, and the ceiling was not tested with that")
	case p.kind != "BASE TABLE":
		r.Add(ceiling.Unsafe, ceiling.Advice("poll a table that other sessions can see"), "%s is not a base table, but a %s", t.Label, strings.ToLower(p.kind))
	case !strings.EqualFold(p.engine, "InnoDB"):
		r.Add(ceiling.Unsafe, append(ceiling.Advice("change the engine to InnoDB, which rebuilds the table and blocks writers until that is done"), ceiling.OtherMeans(t)[1:]...), "the engine is %s: the ceiling relies on how InnoDB shows uncommitted rows", p.engine)
	default:
		r.Add(ceiling.OK, nil, "the engine is InnoDB")
		if strings.Contains(p.options, "partitioned") {
			r.Add(ceiling.OK, nil, "the table is partitioned: its partitions draw from one counter, and are read together; rows that EXCHANGE PARTITION brings are not noticed")
		}
		p.checkKey(r, t)
	}
}

func (p *table) checkKey(r *ceiling.Report, t ceiling.Table) {
	column, bits := t.Key[0].Name, map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[p.typ]
	switch {
	case p.typ == "":
		r.Add(ceiling.Unsafe, ceiling.Advice("name a column of the table in Key"), "the table has no column %q", column)
	case p.typ == "timestamp" || p.typ == "datetime":
		p.refuseTime(r, t, column)
	case bits == 0 || !strings.Contains(p.extra, "auto_increment"):
		r.Add(ceiling.Unsafe, p.remedies(t), "%q of the type %s is not AUTO_INCREMENT: clients or a trigger make its values, and rows do not commit in their order", column, p.typ)
	case p.index == "":
		r.Add(ceiling.Unsafe, ceiling.Advice("create an index, or let the optimizer use the existing one", fmt.Sprintf("ALTER TABLE %s ADD INDEX %s%s (%s);", t.Name, p.unless(), quote(indexName(column)), t.Key[0].Quoted)), "no index that the optimizer may use begins with the key %q", column)
	default:
		if !strings.Contains(p.fullType, "unsigned") {
			bits--
		}
		p.last = 1<<bits - 1
		r.Add(ceiling.OK, nil, "%q is AUTO_INCREMENT, and the index %s begins with it", column, p.index)
		r.Add(ceiling.Note, nil, "clients and triggers can choose the value of %q: a row with one below the greatest can be missed. A trigger shows only to a role with the privilege TRIGGER, and one that is created later only at the next start", column)
		for _, name := range p.triggers {
			r.Add(ceiling.Warning, p.remedies(t), "the trigger %s runs before each INSERT, and its body is not checked: rows are missed if it changes %q", name, column)
		}
	}
}

// refuseTime adds why a key that begins with a time is refused.
func (p *table) refuseTime(r *ceiling.Report, t ceiling.Table, column string) {
	what := "CURRENT_TIMESTAMP or a client sets a time before its row is committed"
	if strings.Contains(p.extra, "on update") {
		what = "ON UPDATE CURRENT_TIMESTAMP sets the time at which a statement began, even if it then waited for a lock"
	}
	r.Add(ceiling.Unsafe, p.remedies(t),
		"the key begins with %q, a %s: %s, and rows commit in another order", column, p.typ, what)
}

// checkRows adds what only the rows show, and statements on them.
func (p *table) checkRows(ctx context.Context, db ceiling.Queryer, r *ceiling.Report, t ceiling.Table) error {
	if p.last == 0 {
		return nil
	}
	var above bool
	err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+p.from+" WHERE "+t.Key[0].Quoted+" > 9223372036854775807)").Scan(&above)
	if err != nil {
		return fmt.Errorf("reading the greatest key: %w", err)
	}
	if above {
		r.Add(ceiling.Unsafe, ceiling.Advice("keep such rows out of the table, or read by another key"), "there are keys above 9223372036854775807, which is the greatest that is supported")
	}
	if _, ok, err := readCounter(ctx, db, t.Parts, ""); err != nil {
		return err
	} else if !ok {
		r.Add(ceiling.Unsafe, ceiling.Advice("grant the role SELECT on the table"), "information_schema does not show the AUTO_INCREMENT counter")
	}
	err = ceiling.Exec(ctx, db, "SELECT COUNT(*) FROM "+t.Name+" WHERE 1 = 0 "+p.server.share)
	switch number := dberr.MySQLNumber(err); {
	case number == 1142 || number == 1143:
		r.Add(ceiling.Unsafe, ceiling.Advice("grant the role SELECT and LOCK TABLES, or upgrade MySQL to 8.0.22"), "the role may not use a locking read, which finds rows that a transaction has both added and deleted")
	case err != nil && !isLocked(err):
		return fmt.Errorf("trying a locking read: %w", err)
	}
	return nil
}

// checkRights adds whether the role sees all threads, and their statements.
func (p *table) checkRights(ctx context.Context, db ceiling.Queryer, r *ceiling.Report) error {
	var connection int64
	var user, enabled string
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CURRENT_USER()").Scan(&connection, &user); err != nil {
		return err
	}
	user = account(user)
	_, err := p.server.statements(ctx, db, connection, nil)
	if err := p.checkReplica(ctx, db, r, user, errors.Is(err, errApplier)); err != nil {
		return err
	}
	switch {
	case dberr.MySQLNumber(err) == 1227:
		r.Add(ceiling.Unsafe, ceiling.Advice("let the role see all threads", "GRANT PROCESS ON *.* TO "+user+";"), "the role lacks the privilege PROCESS, so it sees only threads of the same user, and others could add rows unnoticed")
		return nil
	case errors.Is(err, errApplier):
		return nil // it is reported
	case err != nil:
		return err
	}
	with := p.server
	with.events = true
	err = db.QueryRowContext(ctx, "SELECT ENABLED FROM performance_schema.setup_consumers WHERE NAME = 'events_statements_current'").Scan(&enabled)
	if err == nil {
		_, err = with.statements(ctx, db, connection, nil)
	}
	if err == nil {
		_, err = with.describe(ctx, db, nil)
	}
	if err == nil && enabled == "YES" {
		p.server = with
		r.Add(ceiling.OK, nil, "performance_schema tells each thread's statements apart")
		return nil
	}
	level, remedies := ceiling.Note, []ceiling.Remedy(nil)
	if !p.maria {
		level, remedies = ceiling.Warning, ceiling.Advice("let the role read performance_schema, and switch the consumer on", "GRANT SELECT ON performance_schema.* TO "+user+";",
			"UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_statements_current';")
	}
	r.Add(level, remedies, "performance_schema does not show which statements run: a thread is waited for until it is seen idle")
	return ctx.Err()
}

// account quotes what CURRENT_USER returns. A user's name may contain @, a host's may not.
func account(user string) string {
	at := strings.LastIndex(user, "@")
	return quote(user[:at]) + "@" + quote(user[at+1:])
}

// remedies returns what to do about a key that AUTO_INCREMENT does not draw.
func (p *table) remedies(t ceiling.Table) []ceiling.Remedy {
	switch {
	case strings.EqualFold(p.drawn, t.Key[0].Name):
		return ceiling.Advice("drop the trigger, or make sure that it leaves the key alone")
	case p.drawn != "":
		return append(ceiling.Advice("for inserted rows, set Key to "+p.drawn+", which AUTO_INCREMENT draws"), ceiling.OtherMeans(t)...)
	}
	return ceiling.OtherMeans(t)
}

// unless lets a statement run twice on MariaDB. On MySQL the second run fails and changes nothing.
func (p *table) unless() string {
	if p.maria {
		return "IF NOT EXISTS "
	}
	return ""
}

// indexName names the index of a remedy. A name has at most 64 characters.
func indexName(column string) string {
	if len(column) > 50 {
		column = fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(column)))
	}
	return "devotion_" + column
}

func quote(name string) string { return Dialect{}.Quote(name) }
