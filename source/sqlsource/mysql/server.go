package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// server is what differs between MariaDB and MySQL, and among their settings.
type server struct {
	level  string // the variable with the session's isolation level
	share  string // the clause of a locking read that does not wait
	events bool   // performance_schema shows each thread's statement
}

// listing lists the threads that may be running a statement which adds rows. DESIGN-ceilings.md says
// which it leaves out, and what this connection's row and INNODB_CMP are for.
//
// performance_schema has the row of a statement at level 0 as long as it runs, whatever triggers and
// functions run within it. Their statements are at that level if the outer one is not recorded,
// because its instrument, or its thread's, was off when it began: they are ignored.
func (s server) listing() string {
	event, join := "NULL", ""
	if s.events {
		event = "e.EVENT_ID"
		join = ` LEFT JOIN performance_schema.threads h ON h.PROCESSLIST_ID = p.ID
		LEFT JOIN performance_schema.events_statements_current e ON e.THREAD_ID = h.THREAD_ID AND e.NESTING_EVENT_LEVEL = 0 AND e.END_EVENT_ID IS NULL
			AND e.EVENT_NAME NOT LIKE 'statement/sp/%'`
	}
	return `SELECT p.ID, CONNECTION_ID(), p.USER, p.COMMAND, ` + event + `
		FROM (SELECT COUNT(*) AS n FROM information_schema.INNODB_CMP) AS allowed CROSS JOIN information_schema.PROCESSLIST p` + join + `
		WHERE allowed.n >= 0 AND (p.ID = CONNECTION_ID() OR NOT (p.COMMAND IN ('Sleep', 'Binlog Dump', 'Binlog Dump GTID')
			OR p.COMMAND = 'Daemon' AND p.INFO IS NULL OR p.USER = 'unauthenticated user'
			OR p.INFO IS NOT NULL AND p.INFO IN ('COMMIT', 'ROLLBACK', 'BEGIN', 'START TRANSACTION')))`
}

var (
	errSpread  = errors.New("the statements of one connection ran on several connections: a proxy distributes them; connect to the server itself")
	errApplier = errors.New("a replication applier is running")
)

// statements lists the threads that may be running a statement. A holder is identified by its
// thread and, where that is shown, by its statement. before is the list before this one.
func (s server) statements(ctx context.Context, db ceiling.Queryer, connection int64, before map[string]*ceiling.Holder) (map[string]*ceiling.Holder, error) {
	all := map[string]*ceiling.Holder{}
	hidden := map[string]bool{} // threads that run a statement which is not shown
	own, applier := int64(0), false
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var id, self int64
		var user, command string
		var event sql.NullInt64
		if err := rows.Scan(&id, &self, &user, &command, &event); err != nil {
			return err
		}
		if id == self {
			own = self
			return nil
		}
		applier = applier || user == "system user" &&
			(strings.HasPrefix(command, "Slave_") && command != "Slave_IO" || command == "Connect" || command == "Query")
		name := strconv.FormatInt(id, 10)
		hidden[name] = !event.Valid
		if event.Valid {
			name += "/" + strconv.FormatInt(event.Int64, 10)
		}
		all[name] = &ceiling.Holder{Session: id}
		return nil
	}, s.listing())
	switch {
	case err != nil:
		return nil, fmt.Errorf("listing the statements that run: %w", err)
	case own != connection:
		return nil, errSpread
	case applier:
		return nil, fmt.Errorf("%w: %w", errApplier, ceiling.ErrChanged)
	}
	keepUnfinished(all, before, hidden)
	return all, nil
}

// keepUnfinished keeps the holders listed before that may not have ended: their thread runs a statement,
// and for one of the two it is not shown which statement that is.
func keepUnfinished(all, before map[string]*ceiling.Holder, hidden map[string]bool) {
	for name, h := range before {
		thread, _, shown := strings.Cut(name, "/")
		if now, running := hidden[thread]; running && (now || !shown) && all[name] == nil {
			all[name] = &ceiling.Holder{Session: h.Session}
		}
	}
}

// readUncommitted calls f while the session reads uncommitted rows. The level is set back even when
// ctx has ended; if that fails, the connection is ended, so that no statement of anyone else runs at
// that level. It is set for the session, and not for the next transaction alone, which would save a
// statement: so the result of each statement shows whether it was in force.
func readUncommitted(ctx context.Context, db ceiling.Queryer, connection int64, level string, f func() error) (err error) {
	back := "SET SESSION TRANSACTION ISOLATION LEVEL " + strings.ReplaceAll(level, "-", " ")
	defer func() {
		if ceiling.Exec(ctx, db, back) == nil {
			return
		}
		if failed := ceiling.Restore(ctx, db, back); failed != nil {
			ceiling.Restore(ctx, db, fmt.Sprint("KILL ", connection)) //nolint:errcheck // its error is that the connection has ended
			err = errors.Join(err, fmt.Errorf("setting the isolation level back: %w", failed))
		}
	}()
	if err := ceiling.Exec(ctx, db, "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"); err != nil {
		return fmt.Errorf("setting the isolation level: %w", err)
	}
	return f()
}

// shownHolders is how many holders are named.
const shownHolders = 5

// describe names the threads of the holders or, without holders, those with a transaction that
// has changed rows: they probably hold this table's rows back. INNODB_TRX may be slightly old.
func (s server) describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) ([]string, error) {
	unknown := "a statement that can still add a row"
	// The id 0 stands for a prepared transaction whose session has ended.
	ids := "SELECT * FROM (SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0 AND trx_mysql_thread_id > 0 ORDER BY trx_started LIMIT 5) AS x"
	if len(by) > 0 {
		ids = "-1"
		for _, h := range by[:min(len(by), shownHolders)] {
			ids += fmt.Sprint(", ", h.Session)
		}
	}
	program := "''" // the name that a client gave its connection, if that is visible
	if s.events {
		program = "COALESCE((SELECT CONCAT(', ', MAX(a.ATTR_VALUE)) FROM performance_schema.session_connect_attrs a WHERE a.PROCESSLIST_ID = p.ID AND a.ATTR_NAME = 'program_name' AND a.ATTR_VALUE <> ''), '')"
	}
	who, err := ceiling.DescribeHolders(ctx, db, "SELECT CONCAT('thread ', p.ID, ' (', p.USER, '@', COALESCE(p.HOST, ''), "+program+`, '), ',
			CASE WHEN p.COMMAND = 'Sleep' THEN 'idle in its transaction' WHEN p.STATE <> '' THEN CONCAT('running a statement (', p.STATE, ')') ELSE 'running a statement' END), p.TIME
		FROM information_schema.PROCESSLIST p WHERE p.ID IN (`+ids+") ORDER BY p.ID")
	if err != nil {
		return nil, err
	}
	prepared, err := preparedXA(ctx, db)
	switch {
	case err != nil:
		return nil, err
	case len(by) > shownHolders:
		who = append(who, fmt.Sprintf("%d more", len(by)-shownHolders))
	case len(by) == 0:
		who = append(who, prepared...)
		unknown = "a transaction that has not committed its rows"
	}
	if who == nil {
		who = []string{unknown}
	}
	return who, nil
}

// preparedXA names the prepared transactions, if the role may see them.
func preparedXA(ctx context.Context, db ceiling.Queryer) (who []string, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var format, global, branch int64
		var data []byte
		err := rows.Scan(&format, &global, &branch, &data)
		if len(who) < shownHolders {
			who = append(who, fmt.Sprintf("prepared transaction %q (XA)", data[:min(int(global), len(data))]))
		}
		return err
	}, "XA RECOVER")
	switch dberr.MySQLNumber(err) {
	case 1227, 1401: // no privilege XA_RECOVER_ADMIN
		return nil, nil
	}
	if err != nil {
		err = fmt.Errorf("reading the prepared transactions: %w", err)
	}
	return who, err
}
