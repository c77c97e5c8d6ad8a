package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// checkServer adds what matters about the server, whatever the table.
func (p *table) checkServer(r *ceiling.Report) {
	if want := p.tooOld(); want != "" {
		r.Add(ceiling.Unsafe, ceiling.Advice("upgrade the server to "+want+" or later"), "this is version %s, whose AUTO_INCREMENT counter falls back at a restart and then draws numbers again", p.version)
	}
	if n := p.vars["auto_increment_increment"]; n != "1" {
		r.Add(ceiling.Unsafe, []ceiling.Remedy{
			{Words: "if only this server is written to, let it draw every number", Statements: []string{"SET GLOBAL auto_increment_increment = 1;"}},
			{Words: "read each server separately, by a key that only this server draws"},
		}, "auto_increment_increment is %s: several servers draw numbers in turn", n)
	}
	if p.vars["wsrep_on"] == "ON" {
		r.Add(ceiling.Unsafe, ceiling.Advice("read a server that is not part of the cluster"), "wsrep_on is ON: rows come from the other servers of a Galera cluster, and not in the order of their keys")
	}
	if p.vars["group_replication_group_name"] != "" {
		r.Add(ceiling.Unsafe, ceiling.Advice("read a server that is not part of the group"), "group replication is set up: rows come from the other members, and not in the order of their keys")
	}
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		if v := p.vars[name]; v != "" && v != "OFF" && v != "0" {
			r.Add(ceiling.Unsafe, ceiling.Advice("read from the primary; if this is the primary, set "+name+" to OFF"), "%s is %s: this is a replica, whose rows come in the order of the primary's commits, not of its keys", name, v)
			break
		}
	}
	if n := p.vars["innodb_flush_log_at_trx_commit"]; n != "1" && n != "" {
		r.Add(ceiling.Warning, ceiling.Advice("have each commit written to disk, which makes commits slower", "SET GLOBAL innodb_flush_log_at_trx_commit = 1;"), "innodb_flush_log_at_trx_commit is %s: a crash can take back rows that were committed and read", n)
	}
}

// tooOld returns the first version whose counter survives a restart, if the server's version
// is older or unknown.
func (p *table) tooOld() string {
	first, want := [3]int{8, 0, 0}, "8.0"
	if p.maria {
		first, want = [3]int{10, 2, 4}, "10.2.4"
	}
	var have [3]int
	version := strings.TrimPrefix(p.version, "5.5.5-") // MariaDB tells old replicas that it is 5.5.5
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &have[0], &have[1], &have[2]); err != nil || slices.Compare(have[:], first[:]) < 0 {
		return want
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
		r.Add(ceiling.Unsafe, ceiling.Advice("change the engine, which rebuilds the table and blocks writers until that is done", "ALTER TABLE "+t.Name+" ENGINE = InnoDB;"), "the engine is %s: the ceiling relies on how InnoDB shows uncommitted rows", p.engine)
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
		r.Add(ceiling.Unsafe, ceiling.Advice("create an index", fmt.Sprintf("ALTER TABLE %s ADD UNIQUE (%s);", t.Name, t.Key[0].Quoted)), "no index begins with the key %q", column)
	default:
		if !strings.Contains(p.fullType, "unsigned") {
			bits--
		}
		p.last = 1<<bits - 1
		if p.vars["auto_increment_increment"] == "1" {
			r.Fallbacks = []string{"lag=5m", "grace=30s"}
		}
		r.Add(ceiling.OK, nil, "%q is AUTO_INCREMENT, and the index %s begins with it", column, p.index)
		r.Add(ceiling.Note, nil, "the database lets clients choose the value of %q: a row with one below the greatest can be missed", column)
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
	r.Fallbacks = []string{"lag=5m"}
	remedies := p.remedies(t)
	for i := range remedies {
		remedies[i].Words = "for inserted rows, " + remedies[i].Words
	}
	r.Add(ceiling.Unsafe, append(remedies, ceiling.Remedy{Words: "for changes of rows, choose the ceiling lag explicitly, longer than any transaction is open; it can miss rows"}),
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
	if _, ok, err := readCounter(ctx, db, t.Parts); err != nil {
		return err
	} else if !ok {
		r.Add(ceiling.Unsafe, ceiling.Advice("grant the role SELECT on the table"), "information_schema does not show the AUTO_INCREMENT counter")
	}
	err = exec(ctx, db, "SELECT COUNT(*) FROM "+t.Name+" WHERE 1 = 0 "+p.server.share)
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
	var user string
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CURRENT_USER()").Scan(&connection, &user); err != nil {
		return err
	}
	user = "'" + strings.Replace(user, "@", "'@'", 1) + "'"
	_, err := p.server.statements(ctx, db, connection, nil)
	switch {
	case dberr.MySQLNumber(err) == 1227:
		r.Add(ceiling.Unsafe, ceiling.Advice("let the role see all threads", "GRANT PROCESS ON *.* TO "+user+";"), "the role lacks the privilege PROCESS, so it sees only threads of the same user, and others could add rows unnoticed")
		return nil
	case errors.Is(err, errApplier):
		r.Add(ceiling.Unsafe, ceiling.Advice("read from the primary; on a server that is not a replica, stop the applier with STOP SLAVE (STOP REPLICA)"), "a replication applier is running: it adds rows with keys that another server drew")
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
			r.Add(ceiling.OK, nil, "performance_schema tells each thread's statements apart")
			return nil
		}
	}
	level, fix := ceiling.Note, []ceiling.Remedy(nil)
	if !p.maria {
		level = ceiling.Warning
		fix = ceiling.Advice("let the role read performance_schema, and switch the consumer on", "GRANT SELECT ON performance_schema.* TO "+user+";",
			"UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_statements_current';")
	}
	r.Add(level, fix, "performance_schema does not show which statements run: a thread is waited for until it is seen idle")
	return ctx.Err()
}

// remedies returns how the table can be read by a key that AUTO_INCREMENT draws. A table can have
// one such column only. A new one is INVISIBLE where the server knows that, so that statements which
// insert without a list of columns, and SELECT *, work as before. IF NOT EXISTS lets the statement
// run twice on MariaDB; on MySQL the second run fails and changes nothing.
func (p *table) remedies(t ceiling.Table) []ceiling.Remedy {
	switch {
	case strings.EqualFold(p.drawn, t.Key[0].Name):
		return ceiling.Advice("drop the trigger, or make sure that it leaves the key alone")
	case p.drawn != "":
		return ceiling.Advice("set Key to " + p.drawn + ", which AUTO_INCREMENT draws")
	}
	unless, invisible := "", "/*!80023 INVISIBLE */"
	if p.maria {
		unless, invisible = "IF NOT EXISTS ", "INVISIBLE"
	}
	column := dialect.FreeName("_id", p.columns)
	return ceiling.Advice("add a column that AUTO_INCREMENT draws, which rebuilds the table and blocks writers until that is done; then set Key to "+column,
		"ALTER TABLE "+t.Name+" ADD COLUMN "+unless+quote(column)+" bigint NOT NULL AUTO_INCREMENT UNIQUE "+invisible+";")
}

func quote(name string) string { return Dialect{}.Quote(name) }
