package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// shownHolders is how many holders are named.
const shownHolders = 5

// describe names the threads of the holders or, without holders, those with a transaction that
// has changed rows: they probably hold this table's rows back. INNODB_TRX may be slightly old.
func (s server) describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) (who []string, err error) {
	var ids []string
	for _, h := range by[:min(len(by), shownHolders)] {
		ids = append(ids, strconv.FormatInt(h.Session, 10))
	}
	if ids == nil { // the id 0 stands for a prepared transaction whose session has ended
		ids, err = ceiling.Texts(ctx, db, fmt.Sprintf("SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0 AND trx_mysql_thread_id > 0 ORDER BY trx_started LIMIT %d", shownHolders))
		if err != nil {
			return nil, fmt.Errorf("reading the transactions: %w", err)
		}
	}
	program := "''" // the name that a client gave its connection, if that is visible
	if s.events {
		program = "COALESCE((SELECT MAX(a.ATTR_VALUE) FROM performance_schema.session_connect_attrs a WHERE a.PROCESSLIST_ID = p.ID AND a.ATTR_NAME = 'program_name'), '')"
	}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		thread, err := describeThread(rows)
		who = append(who, thread)
		return err
	}, "SELECT p.ID, p.USER, COALESCE(p.HOST, ''), p.COMMAND, p.TIME, COALESCE(p.STATE, ''), "+program+
		" FROM information_schema.PROCESSLIST p WHERE p.ID IN ("+strings.Join(append(ids, "-1"), ", ")+") ORDER BY p.ID")
	if err != nil {
		return nil, fmt.Errorf("reading the threads: %w", err)
	}
	prepared, err := preparedXA(ctx, db)
	if err != nil {
		return nil, err
	}
	unknown := "a statement that can still add a row"
	switch {
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

func describeThread(rows *sql.Rows) (string, error) {
	var id int64
	var user, host, command, state, program string
	var seconds float64
	err := rows.Scan(&id, &user, &host, &command, &seconds, &state, &program)
	if program != "" {
		program = ", " + program
	}
	doing := "running a statement"
	switch {
	case command == "Sleep":
		doing = "idle in its transaction"
	case state != "":
		doing += " (" + state + ")"
	}
	return fmt.Sprintf("thread %d (%s@%s%s), %s for %s", id, user, host, program, doing, ceiling.FormatAge(seconds)), err
}

// preparedXA names the prepared transactions, if the role may see them.
func preparedXA(ctx context.Context, db ceiling.Queryer) (who []string, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var format, global, branch int64
		var data []byte
		if err := rows.Scan(&format, &global, &branch, &data); err != nil {
			return err
		}
		if len(who) < shownHolders {
			who = append(who, fmt.Sprintf("prepared transaction %q (XA)", data[:min(int(global), len(data))]))
		}
		return nil
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
