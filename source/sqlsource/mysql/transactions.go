package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// TimeLayout implements [ceiling.SQL]. The session's time zone is UTC where a TIMESTAMP is read.
func (Dialect) TimeLayout(typ string) (layout string, utc bool) {
	if typ == "TIMESTAMP" || typ == "DATETIME" {
		return "2006-01-02 15:04:05.000000", typ == "TIMESTAMP"
	}
	return "", false
}

// utcClock returns what the server's clock shows.
const utcClock = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"

// Transactions implements [ceiling.SQL].
func (Dialect) Transactions(ctx context.Context, db ceiling.Queryer, _ ceiling.Table, r *ceiling.Report) (ceiling.Transactions, error) {
	p := &table{}
	if err := p.readServer(ctx, db, ceiling.Table{}); err != nil {
		return nil, fmt.Errorf("reading the server's variables: %w", err)
	}
	wrong := sessionError(cmp.Or(p.vars["transaction_isolation"], p.vars["tx_isolation"]), p.vars["autocommit"] == "ON", p.vars["sql_select_limit"] == noLimit)
	r.AddIf(wrong != "", ceiling.Unsafe, sessionAdvice(), "%s", wrong)
	p.checkPrimary(r)
	var connection int64
	var user string
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CURRENT_USER()").Scan(&connection, &user); err != nil {
		return nil, err
	}
	if _, err := p.server.statements(ctx, db, connection, nil); dberr.MySQLNumber(err) == 1227 {
		r.Add(ceiling.Warning, ceiling.Advice("let the role see all threads", "GRANT PROCESS ON *.* TO "+account(user)+";"),
			"the role lacks the privilege PROCESS, and does not see which transactions are open: the margin must cover the time to the commit")
		return ceiling.Unlisted(utcClock), p.checkReplica(ctx, db, r, account(user), false)
	}
	err := p.checkRights(ctx, db, r)
	return &transactions{server: p.server}, err
}

// checkReplica adds that the server is a replica, also while its applier is stopped. is says that an applier was seen.
func (p *table) checkReplica(ctx context.Context, db ceiling.Queryer, r *ceiling.Report, user string, is bool) error {
	statement, grant := "SELECT CHANNEL_NAME FROM performance_schema.replication_connection_configuration", "GRANT SELECT ON performance_schema.* TO "
	if p.maria {
		statement, grant = "SHOW ALL SLAVES STATUS", "GRANT SLAVE MONITOR ON *.* TO "
	}
	found := func(*sql.Rows) error { is = true; return nil }
	err := ceiling.Each(ctx, db, found, statement)
	number := dberr.MySQLNumber(err)
	hidden := number == 1142 || number == 1227
	if hidden && p.maria { // every role sees whether an applier runs
		err = ceiling.Each(ctx, db, found, "SELECT 1 FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'SLAVES_RUNNING' AND VARIABLE_VALUE <> '0'")
	} else if hidden {
		err = nil
	}
	level := ceiling.Note // other ceilings see an applier when it runs
	if r.Lossy {
		level = ceiling.Warning
	}
	r.AddIf(is, ceiling.Unsafe, ceiling.Advice("read from the primary; on a server that is not a replica any more, remove each connection by STOP SLAVE and RESET SLAVE ALL (STOP REPLICA and RESET REPLICA ALL)"),
		"this server is a replica: its applier adds rows with keys and times that another server gave, also when it is started again after a stop")
	r.AddIf(hidden && !is, level, ceiling.Advice("let the role see it (before MariaDB 10.5 by REPLICATION CLIENT)", grant+user+";"),
		"the role does not see whether this server is a replica whose applier is stopped: rows that this adds later are missed")
	if err != nil {
		err = fmt.Errorf("reading whether the server is a replica: %w", err)
	}
	return err
}

func sessionAdvice() []ceiling.Remedy {
	return ceiling.Advice("set autocommit=1, transaction_isolation='REPEATABLE-READ' and sql_select_limit=DEFAULT in the data source name")
}

// transactions lists what is open, for ceiling.Stamp: the transactions of InnoDB, and the statements that run. A
// transaction of InnoDB begins when it first reads or writes a row, which a statement may do long after it began.
type transactions struct {
	server server
	names  names
	begun  *listing // the statements are listed, and the transactions not yet
	pause  time.Duration
	next   time.Time // when INNODB_TRX may be read again
}

// listing is what is known of a list.
type listing struct {
	at         time.Time // the clock, before
	statements map[string]*ceiling.Holder
	listed     time.Time // the clock, when the statements were listed
}

func (*transactions) Since() string {
	return "its transaction first read or wrote a row, or the statement that wrote it began, whichever was earlier"
}

func (*transactions) Clock(ctx context.Context, db ceiling.Queryer) (time.Time, error) {
	return ceiling.ReadClock(ctx, db, utcClock)
}

// InnoDB makes INNODB_TRX again when nobody has read it for refresh. So a pipeline that does not find it new reads it
// less often, up to slowest, and at random times: others may read it, too.
const (
	refresh = 100 * time.Millisecond
	slowest = 10 * time.Second
)

// List implements [ceiling.Transactions]. The statements are listed first: one that has not begun its transaction when
// the transactions are listed was seen running. What has begun waits until INNODB_TRX was made after that.
func (t *transactions) List(ctx context.Context, db ceiling.Queryer, clock time.Time, before map[string]*ceiling.Holder) (time.Time, map[string]*ceiling.Holder, error) {
	if time.Now().Before(t.next) {
		return clock, nil, nil
	}
	var connection int64
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&connection); err != nil {
		return clock, nil, err
	}
	if t.begun == nil {
		all, err := t.server.statements(ctx, db, connection, before)
		if err != nil {
			return clock, nil, err
		}
		listed, err := t.Clock(ctx, db)
		if err != nil {
			return clock, nil, err
		}
		t.begun = &listing{clock, all, listed}
	}
	open, made, err := readOpen(ctx, db, connection, t.begun.listed)
	l, fresh := *t.begun, err == nil && made >= t.begun.listed.UnixMicro()
	if t.pause *= 2; fresh {
		t.pause /= 4
		t.begun = nil
	}
	t.pause = min(max(t.pause, refresh), slowest)
	t.next = time.Now().Add(t.pause + rand.N(t.pause))
	if !fresh {
		return clock, nil, err
	}
	t.names = t.names.join(l.statements, open, before)
	return l.at, l.statements, nil
}

// trx is a transaction of InnoDB.
type trx struct {
	id      string
	thread  int64 // 0: its session has ended, and it is prepared
	started string
}

// readTrx is the statement that reads INNODB_TRX, up to the time at which it began.
const readTrx = "SELECT trx_id, trx_mysql_thread_id, trx_started, COALESCE(trx_query, '') FROM information_schema.INNODB_TRX WHERE 'devotion lists open transactions at "

// readOpen reads the transactions of InnoDB. InnoDB keeps the list that another session has read for a while. So each
// reads it in a transaction, which is listed with its statement, and the statement has the time at which it began:
// the list was made after the latest such time in it, whoever has read it first.
func readOpen(ctx context.Context, db ceiling.Queryer, connection int64, now time.Time) (open []trx, made int64, err error) {
	for _, begin := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if err := ceiling.Exec(ctx, db, begin); err != nil {
			return nil, 0, fmt.Errorf("beginning a transaction: %w", err)
		}
	}
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var x trx
		var query string
		err := rows.Scan(&x.id, &x.thread, &x.started, &query)
		if text, ok := strings.CutPrefix(query, readTrx); ok {
			text, _, _ = strings.Cut(text, "'")
			n, _ := strconv.ParseInt(text, 10, 64)
			made = max(made, n)
		} else if x.thread != connection {
			open = append(open, x)
		}
		return err
	}, fmt.Sprint(readTrx, now.UnixMicro(), "' <> ''"))
	if ended := ceiling.Restore(ctx, db, "ROLLBACK"); ended != nil || err != nil {
		return nil, 0, fmt.Errorf("listing the open transactions: %w", cmp.Or(err, ended))
	}
	return open, made, nil
}

// names are those of the transactions, by their ids, as they were listed last.
type names map[string]string

// join adds the transactions to the statements that run, and returns their names. A transaction is known by its thread
// and when it began, because its id changes with its first write. Those that one thread begins within a second are taken
// for one. A prepared one keeps its name when its thread ends.
//
// One whose thread was running a statement, and which was not listed then, may be of that statement, and inherits its
// place. So does one without a thread whose name is not known.
func (n names) join(all map[string]*ceiling.Holder, open []trx, before map[string]*ceiling.Holder) names {
	ran := map[int64]bool{}
	for name, h := range before {
		ran[h.Session] = ran[h.Session] || !strings.Contains(name, " ")
	}
	next := names{}
	for _, x := range open {
		name := fmt.Sprintf("transaction of %d since %s", x.thread, x.started)
		if x.thread == 0 {
			name = cmp.Or(n[x.id], "prepared transaction "+x.id)
		}
		h := &ceiling.Holder{Session: x.thread, Prepared: x.thread == 0, Inherits: x.thread == 0 || ran[x.thread]}
		if old := before[name]; old != nil {
			h.Inherits = old.Inherits
		}
		all[name] = h
		if x.id != "0" {
			next[x.id] = name
		}
	}
	return next
}

// Describe implements [ceiling.Transactions].
func (t *transactions) Describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) ([]string, error) {
	by = slices.DeleteFunc(slices.Clone(by), func(h *ceiling.Holder) bool { return h.Prepared })
	return t.server.describe(ctx, db, by)
}
