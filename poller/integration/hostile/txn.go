package hostile

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"
)

// Txn is a transaction of a writer, as an [Act] sees it. It is used by one
// goroutine.
type Txn struct {
	Rand *rand.Rand
	Rows int // how many rows the act should add
	Conn *sql.Conn
	DB   *sql.DB // for what happens outside the transaction

	Table    Table
	Sequence string // that draws the key, on Postgres; "" if none is the key's own

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

// Take reserves tokens for n rows that the transaction inserts, and returns the
// first; the others follow it. All of them must be inserted, or the part of the
// transaction since a Savepoint be rolled back.
func (x *Txn) Take(n int) (first int64) {
	first = x.ledger.take(n)
	x.spans = append(x.spans, span{first: first, n: int32(n), what: x.act})
	return first
}

// Exec runs a statement in the transaction.
func (x *Txn) Exec(ctx context.Context, query string, args ...any) error {
	_, err := x.Conn.ExecContext(ctx, query, args...)
	return err
}

// Savepoint runs f below a savepoint, and rolls it back if f asks for it.
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

// Hold waits for part of the time for which the transaction is held open, most often
// not at all.
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

// insert adds rows by one statement, with keys given by hand or drawn.
func (x *Txn) insert(ctx context.Context, n int, keys ...int64) error {
	s := x.Table.into(x.dialect, len(keys) > 0)
	first := x.Take(n)
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

// draw takes keys from the sequence.
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
