package hostile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	gomysql "github.com/go-sql-driver/mysql"
)

// do runs a transaction from BEGIN to its end.
func (x *Txn) do(ctx context.Context, rollback bool) (state, error) {
	begin := "BEGIN"
	if x.run.dialect == mysql && x.xid != "" {
		begin = "XA START '" + x.xid + "'"
	}
	if err := x.Exec(ctx, begin); err != nil {
		return rolledBack, err
	}
	if err := x.fill(ctx); err != nil {
		return rolledBack, err
	}
	if x.xid != "" { // twoPhases holds it open after PREPARE
		return x.twoPhases(ctx)
	}
	if err := sleep(ctx, x.hold); err != nil {
		return rolledBack, err
	}
	if rollback {
		return rolledBack, x.Exec(ctx, "ROLLBACK")
	}
	switch err := x.Exec(ctx, "COMMIT"); {
	case err == nil:
		return committed, nil
	case aborted(err):
		return rolledBack, err
	default:
		return unknown, err
	}
}

// maxRows is the largest number of rows in a transaction.
const maxRows = 50

// fill runs acts until the transaction has its number of rows.
func (x *Txn) fill(ctx context.Context) error {
	for left := 1 + x.Rand.IntN(maxRows); left > 0; left -= x.Rows {
		a := x.run.pick(x.Rand)
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
func (x *Txn) twoPhases(ctx context.Context) (state, error) {
	prepare := []string{"PREPARE TRANSACTION '" + x.xid + "'"}
	commit, rollback := "COMMIT PREPARED '"+x.xid+"'", "ROLLBACK PREPARED '"+x.xid+"'"
	if x.run.dialect == mysql {
		prepare = []string{"XA END '" + x.xid + "'", "XA PREPARE '" + x.xid + "'"}
		commit, rollback = "XA COMMIT '"+x.xid+"'", "XA ROLLBACK '"+x.xid+"'"
	}
	for _, s := range prepare {
		if err := x.Exec(ctx, s); err != nil {
			if !x.run.Outages || aborted(err) {
				return rolledBack, err
			}
			return unknown, errors.Join(err, x.finish(ctx, rollback)) // it may be prepared despite the error
		}
	}
	if err := sleep(ctx, x.hold); err != nil {
		return unknown, errors.Join(err, x.finish(ctx, rollback))
	}
	end, statement := committed, commit
	if x.Rand.IntN(5) == 0 {
		end, statement = rolledBack, rollback
	}
	if err := x.finish(ctx, statement); err != nil {
		return unknown, err
	}
	return end, nil
}

// finish ends a prepared transaction. If its connection fails, finish retries over others.
func (x *Txn) finish(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishLimit)
	defer cancel()
	err := x.Exec(ctx, statement)
	for try := 0; err != nil; try++ {
		if notPrepared(err) || !x.run.Outages && try > 5 { // an earlier attempt ended it, or it was never prepared
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if _, err = x.DB.ExecContext(ctx, statement); err == nil {
			x.run.ledger.note(func(c *Counts) { c.Reconnected++ })
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
	query, rollback := "SELECT gid FROM pg_prepared_xacts", "ROLLBACK PREPARED '%s'"
	if r.dialect == mysql {
		query, rollback = "XA RECOVER", "XA ROLLBACK '%s'"
	}
	names, err := list[string](ctx, r.DB, query)
	for err != nil && r.Outages && sleep(ctx, 20*time.Millisecond) == nil {
		names, err = list[string](ctx, r.DB, query)
	}
	for _, name := range names {
		if err == nil && strings.HasPrefix(name, r.names) {
			_, err = r.DB.ExecContext(ctx, fmt.Sprintf(rollback, name))
		}
	}
	if err != nil {
		return fmt.Errorf("hostile: rolling back prepared transactions that are left: %w", err)
	}
	return nil
}

// notPrepared reports whether no prepared transaction has the given name.
func notPrepared(err error) bool { return slices.Contains([]string{"42704", "1397"}, code(err)) }

// aborted reports whether the database aborted the transaction because of a deadlock, a
// serialization failure or a lock timeout. InnoDB reports 1467 if that happens while it
// waits to draw a key.
func aborted(err error) bool {
	return slices.Contains([]string{"40001", "40P01", "1205", "1213", "1467"}, code(err))
}

// code returns the SQLSTATE of a Postgres error, or the number of a MySQL error.
func code(err error) string {
	var state interface{ SQLState() string }
	var m *gomysql.MySQLError
	switch {
	case errors.As(err, &state):
		return state.SQLState()
	case errors.As(err, &m):
		return strconv.Itoa(int(m.Number))
	}
	return ""
}
