package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
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
func (Dialect) Transactions(ctx context.Context, db ceiling.Queryer, r *ceiling.Report) (ceiling.Transactions, error) {
	p := &table{}
	if err := p.readServer(ctx, db, ceiling.Table{}); err != nil {
		return nil, fmt.Errorf("reading the server's variables: %w", err)
	}
	wrong := sessionError(cmp.Or(p.vars["transaction_isolation"], p.vars["tx_isolation"]), p.vars["autocommit"] == "ON", p.vars["sql_select_limit"] == noLimit)
	r.AddIf(wrong != "", ceiling.Unsafe, sessionAdvice(), "%s", wrong)
	var connection int64
	var user string
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CURRENT_USER()").Scan(&connection, &user); err != nil {
		return nil, err
	}
	if _, err := p.server.statements(ctx, db, connection, nil); dberr.MySQLNumber(err) == 1227 {
		r.Add(ceiling.Warning, ceiling.Advice("let the role see all threads", "GRANT PROCESS ON *.* TO "+account(user)+";"),
			"the role lacks the privilege PROCESS, and does not see which transactions are open: the margin must cover the time to the commit")
		return ceiling.Unlisted(utcClock), nil
	}
	err := p.checkRights(ctx, db, r)
	return &transactions{server: p.server}, err
}

func sessionAdvice() []ceiling.Remedy {
	return ceiling.Advice("set autocommit=1, transaction_isolation='REPEATABLE-READ' and sql_select_limit=DEFAULT in the data source name")
}

// transactions lists what is open, for ceiling.Stamp: the transactions of InnoDB, and the statements that run. A
// transaction of InnoDB begins when it first reads or writes a row, which a statement may do long after it began.
type transactions struct {
	server server
	pause  time.Duration
	next   time.Time // when INNODB_TRX may be read again
}

func (*transactions) Since() string {
	return "its transaction first read or wrote a row, or the statement that wrote it began, whichever was earlier"
}

func (*transactions) Clock(ctx context.Context, db ceiling.Queryer) (time.Time, error) {
	return ceiling.ReadClock(ctx, db, utcClock)
}

// InnoDB makes INNODB_TRX again when nobody has read it for refresh. So many readers, such as pipelines of many
// tables, read it less often, each at times of its own: as long as it is not new, up to slowest.
const (
	refresh = 100 * time.Millisecond
	slowest = 10 * time.Second
)

// List implements [ceiling.Transactions]. The statements are listed first: one that has not begun its transaction then
// was seen running.
func (t *transactions) List(ctx context.Context, db ceiling.Queryer, before map[string]*ceiling.Holder) (map[string]*ceiling.Holder, error) {
	if time.Now().Before(t.next) {
		return nil, nil
	}
	var connection int64
	if err := db.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&connection); err != nil {
		return nil, err
	}
	all, err := t.server.statements(ctx, db, connection, before)
	if err != nil {
		return nil, err
	}
	open, fresh, err := readOpen(ctx, db, connection)
	if t.pause *= 2; fresh {
		t.pause /= 4
	}
	t.pause = min(max(t.pause, refresh), slowest)
	t.next = time.Now().Add(t.pause + rand.N(t.pause))
	if err != nil || !fresh {
		return nil, err
	}
	join(all, open, before)
	return all, nil
}

// trx is a transaction of InnoDB.
type trx struct {
	id      string
	thread  int64 // 0: a prepared transaction whose session has ended
	started string
}

// name identifies a transaction as long as it lives. Its id changes with its first write. Those that one thread
// begins within a second are taken for one.
func (t trx) name() string {
	if t.thread == 0 {
		return "prepared " + t.id
	}
	return fmt.Sprintf("transaction of %d since %s", t.thread, t.started)
}

// readOpen reads the transactions of InnoDB. InnoDB keeps the list of another reader for a while. So this
// session has a transaction in which it reads, and the list is fresh if it shows the statement that reads it.
func readOpen(ctx context.Context, db ceiling.Queryer, connection int64) (open []trx, fresh bool, err error) {
	for _, begin := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if err := ceiling.Exec(ctx, db, begin); err != nil {
			return nil, false, fmt.Errorf("beginning a transaction: %w", err)
		}
	}
	nonce := fmt.Sprintf("%016x", rand.Uint64())
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var x trx
		var query string
		err := rows.Scan(&x.id, &x.thread, &x.started, &query)
		if x.thread == connection {
			fresh = strings.Contains(query, nonce)
		} else {
			open = append(open, x)
		}
		return err
	}, "SELECT trx_id, trx_mysql_thread_id, trx_started, COALESCE(trx_query, '"+nonce[:8]+"') FROM information_schema.INNODB_TRX WHERE '"+nonce+"' <> ''")
	if ended := ceiling.Restore(ctx, db, "ROLLBACK"); ended != nil || err != nil {
		return nil, false, fmt.Errorf("listing the open transactions: %w", cmp.Or(err, ended))
	}
	return open, fresh, nil
}

// join adds the transactions to the statements that run. One whose thread was running a statement when it was not
// listed yet may be of that statement, and inherits its place. So does one that is prepared: it was listed by its thread.
func join(all map[string]*ceiling.Holder, open []trx, before map[string]*ceiling.Holder) {
	ran := map[int64]bool{}
	for name, h := range before {
		ran[h.Session] = ran[h.Session] || !strings.Contains(name, " ")
	}
	for _, x := range open {
		h := &ceiling.Holder{Session: x.thread, Prepared: x.thread == 0, Inherits: x.thread == 0 || ran[x.thread]}
		if old := before[x.name()]; old != nil {
			h.Inherits = old.Inherits
		}
		all[x.name()] = h
	}
}

// Describe implements [ceiling.Transactions].
func (t *transactions) Describe(ctx context.Context, db ceiling.Queryer, by []*ceiling.Holder) ([]string, error) {
	by = slices.DeleteFunc(slices.Clone(by), func(h *ceiling.Holder) bool { return h.Prepared })
	return t.server.describe(ctx, db, by)
}
