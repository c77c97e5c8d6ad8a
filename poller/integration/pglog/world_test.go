package pglog_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// world is a database that hostile writers change. Each update of an item adds one to its n, and the
// row of counter is locked until the end of the transaction that adds one to it, so that a copy shows any missed change.
type world struct {
	d       dbtest.Database
	db      *sqlx.DB
	seed    uint64
	changes atomic.Int64
	stop    context.CancelFunc
	done    sync.WaitGroup
}

func newWorld(t *testing.T, d dbtest.Database) *world {
	t.Helper()
	w := &world{d: d, db: d.Open(t, dbtest.PGX), seed: rand.Uint64()}
	if *replay != 0 {
		w.seed = *replay
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d; run again with -pglog.seed %d", w.seed, w.seed)
		}
	})
	w.db.MustExec(`create table items (id int primary key, n int not null, body text);
		create table lines (item int references items on delete cascade on update cascade, k int, primary key (item, k));
		create table counter (id int primary key, n bigint); insert into counter values (1, 0);
		create table scratch (id bigint generated always as identity primary key, v int);
		create table shape (id bigint generated always as identity primary key, v int);
		create table bulk (id int primary key);
		insert into items select i, 0, 'b' from generate_series(1, 500) i; insert into lines select i, 1 from generate_series(1, 500, 2) i;
		create publication p for all tables`)
	return w
}

// write starts writers that end when a number of changes is made.
func (w *world) write(writers int, changes int64) {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	for i := range writers {
		rng := rand.New(rand.NewPCG(w.seed, uint64(i)))
		w.done.Go(func() {
			for n := 0; ctx.Err() == nil && w.changes.Load() < changes; n++ {
				_ = w.transaction(ctx, rng, i, n) // deadlocks, duplicate keys and crashes end transactions
			}
		})
	}
}

const keys = 1000

// commitPrepared commits a prepared transaction, also after a crash: its locks would stop all writers.
func (w *world) commitPrepared(name string) error {
	for late := time.Now().Add(lab.WaitLimit); ; <-time.After(10 * time.Millisecond) {
		_, err := w.db.Exec("commit prepared " + name)
		if err == nil || dberr.SQLState(err) == "42704" || time.Now().After(late) { // it does not exist
			return err
		}
	}
}

func (w *world) transaction(ctx context.Context, rng *rand.Rand, writer, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // after a crash of the server
	defer cancel()
	if writer == 0 && rng.IntN(200) == 0 {
		return w.alter(ctx, rng)
	}
	tx, err := w.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	made := int64(0)
	for range 1 + rng.IntN(5) {
		nested := rng.IntN(6) == 0
		if nested {
			_, err = tx.ExecContext(ctx, "savepoint s")
		}
		affected := int64(0)
		if err == nil {
			affected, err = w.act(ctx, tx, rng)
		}
		if nested && err == nil && rng.IntN(2) == 0 {
			affected = 0
			_, err = tx.ExecContext(ctx, "rollback to s")
		}
		if err != nil {
			return err
		}
		made += affected
	}
	switch rng.IntN(20) {
	case 0:
		return nil // rolls back
	case 1:
		name := fmt.Sprintf("'%d %d'", writer, n)
		_, _ = tx.ExecContext(ctx, "prepare transaction "+name)
		_ = tx.Rollback()
		err = w.commitPrepared(name)
	default:
		err = tx.Commit()
	}
	if err == nil {
		w.changes.Add(made)
	}
	return err
}

// act runs one statement, and returns how many rows it has changed.
func (w *world) act(ctx context.Context, tx *sqlx.Tx, rng *rand.Rand) (int64, error) {
	id, other := rng.IntN(keys), rng.IntN(keys)
	exec := func(statement string, args ...any) (int64, error) {
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return 0, err
		}
		return result.RowsAffected()
	}
	switch rng.IntN(10) {
	case 0, 1:
		body := strings.Repeat("x", rng.IntN(20))
		if rng.IntN(10) == 0 {
			body = fmt.Sprint(rng.Perm(3000)) // is stored outside of its row
		}
		return exec(`insert into items values ($1, 0, $2) on conflict (id) do update set n = items.n + 1, body = excluded.body`, id, body)
	case 2, 3:
		return exec(`update items set n = n + 1 where id between $1 and $1 + 4`, id)
	case 4:
		return exec(`update items set id = $2::int, n = n + 1 where id = $1 and not exists (select from items where id = $2::int)`, id, other)
	case 5:
		return exec(`delete from items where id = $1`, id)
	case 6:
		return exec(`insert into lines select $1::int, $2::int where exists (select from items where id = $1::int) on conflict do nothing`, id, rng.IntN(4))
	case 7:
		return exec(`update counter set n = n + 1`)
	case 8:
		return exec(`insert into scratch (v) select i from generate_series(1, $1::int) i`, rng.IntN(20))
	default:
		return exec(`insert into shape (v) values (1)`)
	}
}

// alter changes the definition of a table, or empties one.
func (w *world) alter(ctx context.Context, rng *rand.Rand) error {
	statement := []string{`truncate scratch`, `alter table shape add column if not exists w text default 'w'`, `alter table shape drop column if exists w`,
		`alter table shape alter v type bigint`, `alter table shape alter v type int`}[rng.IntN(5)]
	_, err := w.db.ExecContext(ctx, statement)
	return err
}

// bulk writes one large transaction.
func (w *world) bulk(t *testing.T, rows int) {
	t.Helper()
	lab.WaitFor(t, func() bool { // some connections of the pool are dead after a crash
		_, err := w.db.Exec(`insert into bulk select i from generate_series(1, $1::int) i`, rows)
		return err == nil
	})
}

// state returns the rows that the tables have, in words.
func (w *world) state(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, query := range []string{`select 'items ' || id, n || ' ' || md5(body) from items`, `select 'lines ' || item || ' ' || k, '' from lines`, `select 'counter 1', n::text from counter`,
		`select 'scratch ' || id, v::text from scratch`, `select 'shape ' || id, v::text from shape`, `select 'bulk ' || id, '' from bulk`} {
		rows, err := w.db.Query(query)
		require.NoError(t, err)
		for rows.Next() {
			var key, value sql.NullString
			require.NoError(t, rows.Scan(&key, &value))
			all[key.String] = value.String
		}
		require.NoError(t, rows.Err())
		rows.Close()
	}
	return all
}
