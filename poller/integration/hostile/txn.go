package hostile

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"
)

// Txn is a transaction of a writer, passed to an [Act]. It must be used by one goroutine
// only.
type Txn struct {
	Rand *rand.Rand
	Rows int       // how many rows the act should add
	Conn *sql.Conn // the connection of the transaction
	DB   *sql.DB   // for statements outside the transaction

	Table    Table
	Sequence string // the Postgres sequence that generates the key; "" if the key has none

	ledger   *Ledger
	dialect  dialect
	act      string
	hold     time.Duration
	prefill  int
	low      func() int64
	stock    func(fresh []int64) []int64
	spans    []span
	deletes  []int64
	acts     []string
	prepared bool
}

// Reserve reserves n consecutive tokens and returns the first. The transaction must insert
// a row for each of them, or roll back to a Savepoint before the call.
func (x *Txn) Reserve(n int) (first int64) {
	first = x.ledger.take(n)
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
	s := x.Table.into(x.dialect, len(keys) > 0)
	first := x.Reserve(n)
	for i := range n {
		row := x.Table.row(x.Rand, first+int64(i))
		if len(keys) > 0 {
			row = append(row, keys[i])
		}
		sep := ", ("
		if i == 0 {
			sep = "VALUES ("
		}
		s.WriteString(sep)
		for j, v := range row {
			if j > 0 {
				s.WriteString(", ")
			}
			s.WriteString(s.arg(v))
		}
		s.WriteString(")")
	}
	return x.Exec(ctx, s.String(), s.args...)
}

// draw draws n keys from the sequence.
func draw(ctx context.Context, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, sequence string, n int) (keys []int64, err error) {
	if sequence == "" {
		return nil, fmt.Errorf("no sequence belongs to the key")
	}
	rows, err := q.QueryContext(ctx, `SELECT nextval($1::regclass) FROM generate_series(1, $2::int)`, sequence, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k int64
		if err := rows.Scan(&k); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
