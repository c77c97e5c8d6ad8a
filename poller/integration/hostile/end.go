package hostile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	gomysql "github.com/go-sql-driver/mysql"
)

// end is the planned end of a transaction.
type end int

const (
	endCommit end = iota
	endRollback
	endPrepared
)

// outcome is the actual end of a transaction.
type outcome int

const (
	didRollback outcome = iota
	didCommit
	didUnknown
)

// transaction runs a Txn from BEGIN to its end.
type transaction struct {
	r   *run
	x   *Txn
	xid string // of a prepared transaction
}

func (t transaction) do(ctx context.Context, end end) (outcome, error) {
	x := t.x
	begin := "BEGIN"
	if x.dialect == mysql && end == endPrepared {
		begin = "XA START '" + t.xid + "'"
	}
	if err := x.Exec(ctx, begin); err != nil {
		return didRollback, err
	}
	if err := t.fill(ctx); err != nil {
		return didRollback, err
	}
	if end == endPrepared { // twoPhases holds it open after PREPARE
		return t.twoPhases(ctx)
	}
	if err := sleep(ctx, x.hold); err != nil {
		return didRollback, err
	}
	if end == endRollback {
		return didRollback, x.Exec(ctx, "ROLLBACK")
	}
	if err := x.Exec(ctx, "COMMIT"); err != nil {
		if aborted(err) {
			return didRollback, err
		}
		return didUnknown, err
	}
	return didCommit, nil
}

// fill runs acts until the transaction has its number of rows.
func (t transaction) fill(ctx context.Context) error {
	x := t.x
	for left := 1 + x.Rand.IntN(t.r.MaxRows); left > 0; left -= x.Rows {
		a := t.r.pick(x.Rand)
		x.act, x.Rows = a.Name, left
		if x.Rand.IntN(2) == 0 {
			x.Rows = 1 + x.Rand.IntN(left)
		}
		if err := a.Do(ctx, x); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		x.acts = append(x.acts, a.Name)
		if err := x.Hold(ctx); err != nil {
			return err
		}
	}
	return nil
}

// finishLimit is how long finish and sweep retry to end a prepared transaction, which would
// otherwise hold its locks for ever.
const finishLimit = time.Minute

// twoPhases prepares the transaction, and then commits it, or rolls it back one time in
// five. It uses the session that prepared it unless that is lost. If another session sends
// XA COMMIT right after the first one has ended, MariaDB confirms it without doing it, one
// time in ten thousand. The transaction then stays open, and XA RECOVER does not list it
// (seen with 10.11.19).
func (t transaction) twoPhases(ctx context.Context) (outcome, error) {
	x := t.x
	prepare := []string{"PREPARE TRANSACTION '" + t.xid + "'"}
	commit, rollback := "COMMIT PREPARED '"+t.xid+"'", "ROLLBACK PREPARED '"+t.xid+"'"
	if x.dialect == mysql {
		prepare = []string{"XA END '" + t.xid + "'", "XA PREPARE '" + t.xid + "'"}
		commit, rollback = "XA COMMIT '"+t.xid+"'", "XA ROLLBACK '"+t.xid+"'"
	}
	for _, s := range prepare {
		if err := x.Exec(ctx, s); err != nil {
			if !t.r.Outages || aborted(err) {
				return didRollback, err
			}
			return didUnknown, errors.Join(err, t.finish(ctx, rollback)) // it may be prepared despite the error
		}
	}
	if err := sleep(ctx, x.hold); err != nil {
		return didUnknown, errors.Join(err, t.finish(ctx, rollback))
	}
	if x.Rand.IntN(5) == 0 {
		if err := t.finish(ctx, rollback); err != nil {
			return didUnknown, err
		}
		return didRollback, nil
	}
	if err := t.finish(ctx, commit); err != nil {
		return didUnknown, err
	}
	return didCommit, nil
}

// finish ends a prepared transaction. If its connection fails, finish retries over others.
func (t transaction) finish(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishLimit)
	defer cancel()
	err := t.x.Exec(ctx, statement)
	for try := 0; err != nil; try++ {
		if notPrepared(err) || !t.r.Outages && try > 5 { // an earlier attempt ended it, or it was never prepared
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if _, err = t.r.DB.ExecContext(ctx, statement); err == nil {
			t.r.ledger.note(func(c *Counts) { c.Reconnected++ })
		}
	}
	return nil
}

// sweep rolls back prepared transactions that exist although they were ended: a MariaDB
// that crashes can forget that it rolled one back.
func (r *run) sweep(ctx context.Context) error {
	if r.prepared.Load() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishLimit)
	defer cancel()
	list, rollback := "SELECT 0, 0, 0, gid FROM pg_prepared_xacts", "ROLLBACK PREPARED '%s'"
	if r.dialect == mysql {
		list, rollback = "XA RECOVER", "XA ROLLBACK '%s'"
	}
	rows, err := r.DB.QueryContext(ctx, list)
	for err != nil && r.Outages && sleep(ctx, 20*time.Millisecond) == nil {
		rows, err = r.DB.QueryContext(ctx, list)
	}
	if err != nil {
		return fmt.Errorf("hostile: looking for prepared transactions: %w", err)
	}
	defer rows.Close()
	var left []string
	for rows.Next() {
		var n [3]int
		var xid string
		if err := rows.Scan(&n[0], &n[1], &n[2], &xid); err != nil {
			return fmt.Errorf("hostile: looking for prepared transactions: %w", err)
		}
		if strings.HasPrefix(xid, r.names) {
			left = append(left, xid)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("hostile: looking for prepared transactions: %w", err)
	}
	for _, xid := range left {
		if _, err := r.DB.ExecContext(ctx, fmt.Sprintf(rollback, xid)); err != nil {
			return fmt.Errorf("hostile: rolling back a prepared transaction: %w", err)
		}
	}
	return nil
}

// notPrepared reports whether no prepared transaction has the given name.
func notPrepared(err error) bool {
	state, number := code(err)
	return state == "42704" || number == 1397
}

// aborted reports whether the database aborted the transaction because of a deadlock, a
// serialization failure or a lock timeout. InnoDB reports 1467 if that happens while it
// waits to draw a key.
func aborted(err error) bool {
	state, number := code(err)
	return state == "40001" || state == "40P01" || number == 1213 || number == 1205 || number == 1467
}

// code returns the SQLSTATE of a Postgres error, or the number of a MySQL error.
func code(err error) (state string, number uint16) {
	var s interface{ SQLState() string }
	if errors.As(err, &s) {
		return s.SQLState(), 0
	}
	var m *gomysql.MySQLError
	if errors.As(err, &m) {
		return "", m.Number
	}
	return "", 0
}
