package hostile

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strings"
	"time"
)

// Txn is a transaction of a writer, passed to an [Act]. It must be used by one goroutine
// only.
type Txn struct {
	Rand *rand.Rand
	Rows int       // how many rows the act should add
	Conn *sql.Conn // the connection of the transaction
	DB   *sql.DB   // for statements outside the transaction

	run     *run
	xid     string // name of a prepared transaction, otherwise ""
	act     string
	hold    time.Duration
	spans   []span
	deletes []int64
	acts    []string
}

// Reserve reserves n consecutive tokens and returns the first. The transaction must insert
// a row for each of them, or roll back to a Savepoint before the call.
func (x *Txn) Reserve(n int) (first int64) {
	first = x.run.ledger.take(n)
	x.spans = append(x.spans, span{first: first, n: int32(n), what: x.act})
	return first
}

// Exec runs a statement in the transaction.
func (x *Txn) Exec(ctx context.Context, query string, args ...any) error {
	_, err := x.Conn.ExecContext(ctx, query, args...)
	return err
}

// Savepoint runs f after a savepoint. Then it rolls back to the savepoint if f returns
// true, and otherwise releases it.
func (x *Txn) Savepoint(ctx context.Context, f func() (rollback bool, err error)) error {
	spans, deletes := len(x.spans), len(x.deletes)
	if err := x.Exec(ctx, "SAVEPOINT hostile"); err != nil {
		return err
	}
	rollback, err := f()
	if err != nil {
		return err
	}
	if !rollback {
		return x.Exec(ctx, "RELEASE SAVEPOINT hostile")
	}
	x.spans, x.deletes = x.spans[:spans], x.deletes[:deletes]
	return x.Exec(ctx, "ROLLBACK TO SAVEPOINT hostile")
}

// Hold waits for a random part of the time for which the transaction is held open. Most
// transactions are not held open, and Hold returns at once.
func (x *Txn) Hold(ctx context.Context) error {
	d := time.Duration(x.Rand.Float64() * float64(x.hold))
	x.hold -= d
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// insert inserts n rows with one statement. Without keys the database generates them.
func (x *Txn) insert(ctx context.Context, n int, keys ...int64) error {
	args := arguments{dialect: x.run.dialect}
	first := x.Reserve(n)
	var rows []string
	for i := range n {
		row := x.run.Table.row(x.Rand, first+int64(i))
		if keys != nil {
			row = append(row, keys[i])
		}
		rows = append(rows, "("+args.add(row...)+")")
	}
	return x.Exec(ctx, x.run.Table.into(keys != nil)+"VALUES "+strings.Join(rows, ", "), args.values...)
}
