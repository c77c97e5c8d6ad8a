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

// Act is one thing that a transaction does. Its Do adds about x.Rows rows, by
// x.Take and x.Exec.
type Act struct {
	Name   string
	Weight float64 // how often it is picked, next to others; 0 is 1
	Do     func(ctx context.Context, x *Txn) error
}

// Weigh returns the act with another weight.
func (a Act) Weigh(w float64) Act {
	a.Weight = w
	return a
}

// Common returns the acts that every application does, and that no ceiling but
// a lossy one may stumble over: those of this package that are not named unsound,
// and work on the database at hand with any table.
func Common(db *sql.DB) ([]Act, error) {
	d, err := findDialect(db)
	if err != nil {
		return nil, err
	}
	acts := []Act{Single, Multi.Weigh(4), Select, Nested, Undone, Revived.Weigh(0.3)}
	if d == postgres {
		if isPGX(db) {
			acts = append(acts, Copy)
		}
		acts = append(acts, Ahead)
	}
	return acts, nil
}

// Acts that are sound.
var (
	// Single inserts its rows one statement each, with time between them.
	Single = Act{Name: "single rows", Do: func(ctx context.Context, x *Txn) error {
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

	// Multi inserts all its rows by one statement.
	Multi = Act{Name: "multi-row", Do: func(ctx context.Context, x *Txn) error { return x.insert(ctx, x.Rows) }}

	// Select inserts by INSERT ... SELECT.
	Select = Act{Name: "insert select", Do: insertSelect}

	// Copy uses COPY FROM STDIN. It needs Postgres and pgx.
	Copy = Act{Name: "copy", Do: copyRows}

	// Nested inserts below a savepoint that is released.
	Nested = Act{Name: "savepoint", Do: func(ctx context.Context, x *Txn) error {
		return x.Savepoint(ctx, func() (bool, error) { return false, x.insert(ctx, x.Rows) })
	}}

	// Undone inserts, rolls that back to a savepoint, and inserts again: keys
	// below its own are drawn and never used.
	Undone = Act{Name: "savepoint rolled back", Do: func(ctx context.Context, x *Txn) error {
		err := x.Savepoint(ctx, func() (bool, error) { return true, x.insert(ctx, x.Rows) })
		if err != nil {
			return err
		}
		return x.insert(ctx, x.Rows)
	}}

	// Revived inserts rows, deletes them, and undoes the deletion by a
	// savepoint: rows that none can see for a while, and that come back.
	Revived = Act{Name: "deletion rolled back", Do: func(ctx context.Context, x *Txn) error {
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

	// Ahead draws its keys from the sequence, waits, and then inserts with them,
	// all in one transaction. It needs Postgres.
	Ahead = Act{Name: "nextval ahead", Do: func(ctx context.Context, x *Txn) error {
		keys, err := draw(ctx, x.Conn, x.Sequence, x.Rows)
		if err != nil {
			return err
		}
		if err := x.Hold(ctx); err != nil {
			return err
		}
		return x.insert(ctx, x.Rows, keys...)
	}}

	// DeleteNewest deletes rows that have just been committed, which a reader may
	// or may not have read, and inserts.
	DeleteNewest = Act{Name: "delete ahead", Do: func(ctx context.Context, x *Txn) error { return deleteRows(ctx, x, true) }}

	// DeleteAny deletes committed rows of any age, and inserts.
	DeleteAny = Act{Name: "delete behind", Do: func(ctx context.Context, x *Txn) error { return deleteRows(ctx, x, false) }}

	// Truncate empties the table by TRUNCATE, which leaves the sequence alone, and
	// inserts. It needs Postgres. Rows that it removes count as deleted, so a
	// reader may have missed them: try it alone, and rarely.
	Truncate = Act{Name: "truncate", Do: truncate}
)

// Acts that break what ceilings rest on: the key is not drawn by the transaction
// that inserts it. Rows are missed by every reader that uses the key, and the
// database does not tell.
var (
	// Earlier inserts with keys that were drawn from the sequence some
	// transactions ago, as clients do that fetch a stock of them. It needs
	// Postgres.
	Earlier = Act{Name: "nextval earlier", Do: func(ctx context.Context, x *Txn) error {
		fresh, err := draw(ctx, x.DB, x.Sequence, x.Rows)
		if err != nil {
			return err
		}
		return x.insert(ctx, x.Rows, x.stock(fresh)...)
	}}

	// Low inserts with explicit keys, below all existing keys.
	Low = Act{Name: "explicit low keys", Do: func(ctx context.Context, x *Txn) error {
		var keys []int64
		for range x.Rows {
			keys = append(keys, x.low())
		}
		return x.insert(ctx, x.Rows, keys...)
	}}
)

// Upsert inserts the first n rows of Writers.Prefill again, by one statement, with
// a new row before and after them. Those rows keep their tokens, so that the
// statement takes long, and draws keys, for nothing. On MySQL it is INSERT IGNORE
// or ON DUPLICATE KEY UPDATE, whose last row gets the lowest key of those drawn;
// on Postgres ON CONFLICT. All columns but Token need a default, and Token a
// unique index.
func Upsert(n int) Act {
	return Act{Name: "upsert of " + strconv.Itoa(n), Do: func(ctx context.Context, x *Txn) error { return upsert(ctx, x, n) }}
}

func insertSelect(ctx context.Context, x *Txn) error {
	first := x.Take(x.Rows)
	s := x.Table.into(x.dialect, false)
	if x.dialect == mysql {
		s.WriteString("WITH RECURSIVE n (n) AS (SELECT " + s.arg(first) + " UNION ALL SELECT n + 1 FROM n WHERE n < " + s.arg(first+int64(x.Rows)-1) + ") ")
	}
	s.WriteString("SELECT n")
	for _, v := range x.Table.row(x.Rand, 0)[1:] {
		s.WriteString(", " + s.arg(v))
	}
	s.WriteString(" FROM ")
	if x.dialect == mysql {
		s.WriteString("n")
	} else {
		s.WriteString("generate_series(" + s.arg(first) + "::bigint, " + s.arg(first+int64(x.Rows)-1) + "::bigint) AS n")
	}
	return x.Exec(ctx, s.String(), s.args...)
}

func isPGX(db *sql.DB) bool {
	_, ok := db.Driver().(*stdlib.Driver)
	return ok
}

func copyRows(ctx context.Context, x *Txn) error {
	var rows [][]any
	first := x.Take(x.Rows)
	for i := range x.Rows {
		rows = append(rows, x.Table.row(x.Rand, first+int64(i)))
	}
	name := unquoted(strings.Split(x.Table.Name, "."))
	return x.Conn.Raw(func(c any) error {
		conn, ok := c.(*stdlib.Conn)
		if !ok {
			return errors.New("COPY needs the driver pgx")
		}
		_, err := conn.Conn().CopyFrom(ctx, name, unquoted(x.Table.columns(false)), pgx.CopyFromRows(rows))
		return err
	})
}

// unquoted takes the quotes off, which CopyFrom adds again.
func unquoted(names []string) []string {
	var list []string
	for _, n := range names {
		list = append(list, strings.Trim(n, `"`))
	}
	return list
}

func deleteRows(ctx context.Context, x *Txn, newest bool) error {
	for _, token := range x.ledger.victims(x.Rand.IntN, newest) {
		if err := x.delete(ctx, token); err != nil {
			return err
		}
		x.deletes = append(x.deletes, token)
	}
	return x.insert(ctx, x.Rows)
}

// delete deletes one row: for several MariaDB would look through the whole table,
// and lock all of it.
func (x *Txn) delete(ctx context.Context, token int64) error {
	return x.Exec(ctx, "DELETE FROM "+x.Table.Name+" WHERE "+x.Table.Token+" = "+strconv.FormatInt(token, 10))
}

// truncate empties the table. The rows are read first, below a lock, to know
// whose end it is.
func truncate(ctx context.Context, x *Txn) error {
	if err := x.Exec(ctx, "LOCK TABLE "+x.Table.Name+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	rows, err := x.Conn.QueryContext(ctx, "SELECT "+x.Table.Token+" FROM "+x.Table.Name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var token int64
		if err := rows.Scan(&token); err != nil {
			return err
		}
		x.deletes = append(x.deletes, token)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := x.Exec(ctx, "TRUNCATE "+x.Table.Name); err != nil {
		return err
	}
	return x.insert(ctx, x.Rows)
}

func upsert(ctx context.Context, x *Txn, n int) error {
	if x.prefill < n {
		return fmt.Errorf("Writers.Prefill is %d, below %d", x.prefill, n)
	}
	first, last := x.Take(1), x.Take(1)
	update := x.Rand.IntN(2) == 0
	if x.dialect == postgres {
		then := "NOTHING"
		if update { // only a few, or the table would double with each
			then = fmt.Sprintf("UPDATE SET %s = EXCLUDED.%[1]s WHERE EXCLUDED.%[1]s %% 100 = 0", x.Table.Token)
		}
		return x.Exec(ctx, fmt.Sprintf(`INSERT INTO %s (%s) SELECT $1::bigint UNION ALL SELECT generate_series(1, $2::bigint) UNION ALL SELECT $3::bigint ON CONFLICT (%[2]s) DO %s`,
			x.Table.Name, x.Table.Token, then), first, n, last)
	}
	var s strings.Builder
	ignore, then := "IGNORE ", ""
	if update {
		ignore, then = "", fmt.Sprintf(" ON DUPLICATE KEY UPDATE %s = VALUES(%[1]s)", x.Table.Token)
	}
	fmt.Fprintf(&s, "INSERT %sINTO %s (%s) VALUES (%d)", ignore, x.Table.Name, x.Table.Token, first)
	for i := range n {
		s.WriteString(",(" + strconv.Itoa(i+1) + ")")
	}
	fmt.Fprintf(&s, ",(%d)%s", last, then)
	return x.Exec(ctx, s.String())
}
