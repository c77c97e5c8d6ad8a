package hostile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Act is one step of a transaction, such as an INSERT of several rows. Do should add about
// x.Rows rows, with tokens from x.Reserve and statements by x.Exec. An error from Do rolls
// the transaction back. It also ends Run, unless it is a deadlock or a lock timeout, or
// Writers.Outages is true. Do is called from several goroutines.
type Act struct {
	Name   string
	Weight float64 // how often it is drawn, relative to other acts; 0 means 1; must not be negative
	Do     func(ctx context.Context, x *Txn) error
}

// WithWeight returns a copy of the act with another weight.
func (a Act) WithWeight(w float64) Act {
	a.Weight = w
	return a
}

// Common returns the sound acts that work on any table of the database: SingleRows,
// MultiRow, InsertSelect, Savepoint, SavepointRollback, DeleteRollback, on Postgres
// NextvalAhead, and with pgx Copy. No ceiling but a lossy one may miss their rows. It
// returns an error for a driver that the package does not know.
func Common(db *sql.DB) ([]Act, error) {
	d, err := findDialect(db)
	if err != nil {
		return nil, err
	}
	acts := []Act{SingleRows, MultiRow.WithWeight(4), InsertSelect, Savepoint, SavepointRollback, DeleteRollback.WithWeight(0.3)}
	if d == postgres {
		if _, ok := db.Driver().(*stdlib.Driver); ok {
			acts = append(acts, Copy)
		}
		acts = append(acts, NextvalAhead)
	}
	return acts, nil
}

// Sound acts: the transaction that inserts a row also draws its key.
var (
	// SingleRows inserts rows with a statement each, and pauses between them.
	SingleRows = Act{Name: "single rows", Do: func(ctx context.Context, x *Txn) error {
		for range x.Rows {
			if err := x.insert(ctx, 1); err != nil {
				return err
			}
			if err := x.Hold(ctx); err != nil {
				return err
			}
		}
		return nil
	}}

	// MultiRow inserts all rows with one statement.
	MultiRow = Act{Name: "multi-row", Do: func(ctx context.Context, x *Txn) error { return x.insert(ctx, x.Rows) }}

	// InsertSelect inserts all rows with INSERT ... SELECT.
	InsertSelect = Act{Name: "insert select", Do: insertSelect}

	// Copy inserts all rows with COPY FROM STDIN. It needs Postgres and pgx.
	Copy = Act{Name: "copy", Do: copyRows}

	// Savepoint inserts after a savepoint, and releases the savepoint.
	Savepoint = Act{Name: "savepoint", Do: func(ctx context.Context, x *Txn) error {
		return x.Savepoint(ctx, func() (bool, error) { return false, x.insert(ctx, x.Rows) })
	}}

	// SavepointRollback inserts rows, rolls them back to a savepoint, and inserts other
	// rows. So keys are drawn and never used.
	SavepointRollback = Act{Name: "savepoint rolled back", Do: func(ctx context.Context, x *Txn) error {
		err := x.Savepoint(ctx, func() (bool, error) { return true, x.insert(ctx, x.Rows) })
		if err != nil {
			return err
		}
		return x.insert(ctx, x.Rows)
	}}

	// DeleteRollback inserts rows, deletes them, and rolls the deletion back to a
	// savepoint. The rows are invisible to every reader for a while, and then visible
	// again.
	DeleteRollback = Act{Name: "deletion rolled back", Do: func(ctx context.Context, x *Txn) error {
		if err := x.insert(ctx, x.Rows); err != nil {
			return err
		}
		first := x.spans[len(x.spans)-1].first
		return x.Savepoint(ctx, func() (bool, error) {
			for token := first; token < first+int64(x.Rows); token++ {
				if err := x.delete(ctx, token); err != nil {
					return false, err
				}
			}
			return true, x.Hold(ctx)
		})
	}}

	// NextvalAhead draws keys from the sequence, pauses, and inserts rows with these keys,
	// all in one transaction. It needs Postgres.
	NextvalAhead = Act{Name: "nextval ahead", Do: func(ctx context.Context, x *Txn) error {
		keys, err := x.draw(ctx, x.Conn)
		if err != nil {
			return err
		}
		if err := x.Hold(ctx); err != nil {
			return err
		}
		return x.insert(ctx, x.Rows, keys...)
	}}

	// DeleteNewest deletes up to five of the rows committed last, which a reader may or may
	// not have read, and inserts other rows.
	DeleteNewest = Act{Name: "delete newest", Do: func(ctx context.Context, x *Txn) error { return deleteRows(ctx, x, true) }}

	// DeleteAny deletes up to five committed rows of any age, and inserts other rows.
	DeleteAny = Act{Name: "delete any", Do: func(ctx context.Context, x *Txn) error { return deleteRows(ctx, x, false) }}

	// Truncate empties the table with TRUNCATE, which does not change the sequence, and
	// inserts rows. It needs Postgres. The removed rows count as deleted, so a reader that
	// missed them is not reported. Use it in a separate trial and with a low weight.
	Truncate = Act{Name: "truncate", Do: truncate}
)

// Unsound acts: the transaction that inserts a row does not draw its key. Every reader that
// orders rows by the key misses such rows, and the database gives no sign of them.
var (
	// NextvalEarlier inserts with keys that an earlier transaction drew from the sequence,
	// like clients that reserve keys in advance. It needs Postgres.
	NextvalEarlier = Act{Name: "nextval earlier", Do: func(ctx context.Context, x *Txn) error {
		fresh, err := x.draw(ctx, x.DB)
		if err != nil {
			return err
		}
		return x.insert(ctx, x.Rows, x.run.swap(fresh)...)
	}}

	// LowKeys inserts with explicit keys below all existing ones.
	LowKeys = Act{Name: "explicit low keys", Do: func(ctx context.Context, x *Txn) error {
		var keys []int64
		for range x.Rows {
			keys = append(keys, x.run.low.Add(-1))
		}
		return x.insert(ctx, x.Rows, keys...)
	}}
)

// Upsert inserts the first n rows of Writers.Prefill again with one statement, and one new
// row before and one after them. The existing rows keep their tokens: the statement takes
// long and draws keys that no row gets. On MySQL it uses INSERT IGNORE or ON DUPLICATE KEY
// UPDATE, where the last new row gets the lowest of the keys drawn. On Postgres it uses ON
// CONFLICT. All columns but Table.Token need a default, and Token needs a unique index.
func Upsert(n int) Act {
	return Act{Name: "upsert of " + strconv.Itoa(n), Do: func(ctx context.Context, x *Txn) error { return upsert(ctx, x, n) }}
}

func insertSelect(ctx context.Context, x *Txn) error {
	first := x.Reserve(x.Rows)
	last := first + int64(x.Rows) - 1
	tokens := fmt.Sprintf("generate_series(%d::bigint, %d::bigint) AS n", first, last)
	if x.run.dialect == mysql {
		tokens = fmt.Sprintf("(WITH RECURSIVE n (n) AS (SELECT CAST(%d AS SIGNED) UNION ALL SELECT n + 1 FROM n WHERE n < %d) SELECT n FROM n) AS n", first, last)
	}
	columns, args := "n", arguments{dialect: x.run.dialect}
	for _, v := range x.run.Table.row(x.Rand, 0)[1:] {
		columns += ", " + args.add(v)
	}
	return x.Exec(ctx, x.run.Table.into(false)+"SELECT "+columns+" FROM "+tokens, args.values...)
}

// draw draws x.Rows keys from the sequence.
func (x *Txn) draw(ctx context.Context, q queryer) ([]int64, error) {
	if !x.run.sequence.Valid {
		return nil, errors.New("no sequence belongs to the key")
	}
	return list[int64](ctx, q, `SELECT nextval($1::regclass) FROM generate_series(1, $2::int)`, x.run.sequence.String, x.Rows)
}

func copyRows(ctx context.Context, x *Txn) error {
	var rows [][]any
	first := x.Reserve(x.Rows)
	for i := range x.Rows {
		rows = append(rows, x.run.Table.row(x.Rand, first+int64(i)))
	}
	name := unquoted(strings.Split(x.run.Table.Name, "."))
	return x.Conn.Raw(func(c any) error {
		conn, ok := c.(*stdlib.Conn)
		if !ok {
			return errors.New("COPY needs the pgx driver")
		}
		_, err := conn.Conn().CopyFrom(ctx, name, unquoted(x.run.Table.columns()), pgx.CopyFromRows(rows))
		return err
	})
}

// unquoted removes the quotes, because CopyFrom adds them.
func unquoted(names []string) []string {
	var list []string
	for _, n := range names {
		list = append(list, strings.Trim(n, `"`))
	}
	return list
}

func deleteRows(ctx context.Context, x *Txn, newest bool) error {
	for _, token := range x.run.ledger.deletable(x.Rand.IntN, newest) {
		if err := x.delete(ctx, token); err != nil {
			return err
		}
		x.deletes = append(x.deletes, token)
	}
	return x.insert(ctx, x.Rows)
}

// delete deletes one row. If several rows were deleted with one statement, MariaDB would
// scan and lock the whole table.
func (x *Txn) delete(ctx context.Context, token int64) error {
	return x.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s = %d", x.run.Table.Name, x.run.Table.Token, token))
}

// truncate reads the rows under a lock before it empties the table, so that it knows which
// ones it removes.
func truncate(ctx context.Context, x *Txn) error {
	t := &x.run.Table
	if err := x.Exec(ctx, "LOCK TABLE "+t.Name+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	tokens, err := list[int64](ctx, x.Conn, "SELECT "+t.Token+" FROM "+t.Name)
	if err != nil {
		return err
	}
	x.deletes = append(x.deletes, tokens...)
	if err := x.Exec(ctx, "TRUNCATE "+t.Name); err != nil {
		return err
	}
	return x.insert(ctx, x.Rows)
}

func upsert(ctx context.Context, x *Txn, n int) error {
	if x.run.Prefill < n {
		return fmt.Errorf("Writers.Prefill is %d, below %d", x.run.Prefill, n)
	}
	first, last := x.Reserve(1), x.Reserve(1)
	update := x.Rand.IntN(2) == 0
	t := &x.run.Table
	if x.run.dialect == postgres {
		then := "NOTHING"
		if update { // only a few: Postgres writes a new version of each updated row, so the table would double with each act
			then = fmt.Sprintf("UPDATE SET %s = EXCLUDED.%[1]s WHERE EXCLUDED.%[1]s %% 100 = 0", t.Token)
		}
		return x.Exec(ctx, fmt.Sprintf(`INSERT INTO %s (%s) SELECT %d::bigint UNION ALL SELECT generate_series(1, %d::bigint) UNION ALL SELECT %d::bigint ON CONFLICT (%[2]s) DO %[6]s`,
			t.Name, t.Token, first, n, last, then))
	}
	ignore, then := "IGNORE ", ""
	if update {
		ignore, then = "", fmt.Sprintf(" ON DUPLICATE KEY UPDATE %s = VALUES(%[1]s)", t.Token)
	}
	var old strings.Builder
	for i := range n {
		fmt.Fprintf(&old, "(%d),", i+1)
	}
	return x.Exec(ctx, fmt.Sprintf("INSERT %sINTO %s (%s) VALUES (%d),%s(%d)%s", ignore, t.Name, t.Token, first, old.String(), last, then))
}
