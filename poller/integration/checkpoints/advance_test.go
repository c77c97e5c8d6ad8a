package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/source"
)

// checkpointedOrder and checkpointedOrders are the types in the example of sqlcheckpoint.
type checkpointedOrder struct {
	ID int64 `db:"id"`
}

type checkpointedOrders struct {
	*sqlcheckpoint.Store
	db     *sqlx.DB
	commit func(*sqlx.Tx) error
}

func (o checkpointedOrders) Write(ctx context.Context, b source.Batch[checkpointedOrder]) error {
	tx, err := o.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if moved, err := o.Advance(ctx, tx, b.From, b.To); err != nil || !moved {
		return err
	}
	for _, r := range b.Records {
		if _, err := tx.NamedExecContext(ctx, `INSERT INTO orders (id) VALUES (:id)`, r); err != nil {
			return err
		}
	}
	return o.commit(tx)
}

func commitTx(tx *sqlx.Tx) error { return tx.Commit() }

func TestCheckpointAdvance(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		db.MustExec(`CREATE TABLE orders (id BIGINT)`) // without a key, so that duplicates show
		lost := errors.New("connection lost")
		o := checkpointedOrders{openCheckpoint(t, db, sqlcheckpoint.Options{}), db, commitTx}
		batch := func(from, to source.Cursor, ids ...int64) source.Batch[checkpointedOrder] {
			b := source.Batch[checkpointedOrder]{From: from, To: to}
			for _, id := range ids {
				b.Records = append(b.Records, checkpointedOrder{id})
			}
			return b
		}
		stored := func() (ids []int64) {
			require.NoError(t, db.Select(&ids, `SELECT id FROM orders ORDER BY id`))
			return ids
		}
		require.ErrorIs(t, o.Write(t.Context(), batch("", "2", 1, 2)), poller.ErrConflict, "Write before Load")
		require.Empty(t, loadedCursor(t, o.Store))
		ctx, cancel := context.WithTimeout(t.Context(), lab.WaitLimit)
		defer cancel()

		first := batch("", "2", 1, 2)
		o.commit = func(tx *sqlx.Tx) error { return errors.Join(lost, tx.Rollback()) }
		require.ErrorIs(t, o.Write(ctx, first), lost)
		require.Empty(t, stored())
		o.commit = func(tx *sqlx.Tx) error { return errors.Join(lost, tx.Commit()) }
		require.ErrorIs(t, o.Write(ctx, first), lost)
		require.Equal(t, []int64{1, 2}, stored())
		o.commit = commitTx
		require.NoError(t, o.Write(ctx, first), "the first commit succeeded, but its answer was lost")
		require.ErrorIs(t, o.Write(ctx, batch("", "3", 1, 2, 3)), poller.ErrConflict, "a different batch needs a Load first")
		require.Equal(t, []int64{1, 2}, stored())
		require.NoError(t, o.Save(ctx, "", "2"), "as a Poller does after Write")
		require.NoError(t, o.Write(ctx, batch("2", "3", 3)))
		require.NoError(t, o.Save(ctx, "2", "3"))

		other := checkpointedOrders{openCheckpoint(t, db, sqlcheckpoint.Options{}), db, commitTx}
		require.Equal(t, source.Cursor("3"), loadedCursor(t, other.Store))
		require.NoError(t, other.Write(ctx, batch("3", "4", 4)))
		err := o.Write(ctx, batch("3", "4", 4))
		require.ErrorIs(t, err, poller.ErrConflict, "lockstep")
		require.ErrorContains(t, err, `expected "3"`)
		require.ErrorContains(t, err, `found "4"`)
		require.Equal(t, []int64{1, 2, 3, 4}, stored())
		require.Equal(t, source.Cursor("4"), loadedCursor(t, o.Store))
		require.NoError(t, o.Write(ctx, batch("4", "4", 5)), "the cursor of a batch may be unchanged")
	})
}

// If two pipelines save in concurrent transactions, one of them waits and gets a conflict.
func TestCheckpointAdvanceRace(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		db.MustExec(`CREATE TABLE orders (id BIGINT)`)
		for round := range 10 {
			from, to := source.Cursor(fmt.Sprint("at ", round)), source.Cursor(fmt.Sprint("at ", round+1))
			require.NoError(t, openCheckpoint(t, db, sqlcheckpoint.Options{}).Rewind(t.Context(), from))
			rivals := make([]checkpointedOrders, 3)
			for i := range rivals {
				rivals[i] = checkpointedOrders{openCheckpoint(t, db, sqlcheckpoint.Options{}), db, commitTx}
				require.Equal(t, from, loadedCursor(t, rivals[i].Store))
			}
			errs := make([]error, len(rivals))
			var all sync.WaitGroup
			for i, o := range rivals {
				all.Go(func() {
					for range 10 { // SQLite may be busy
						errs[i] = o.Write(t.Context(), source.Batch[checkpointedOrder]{From: from, To: to, Records: []checkpointedOrder{{int64(round)}}})
						if errs[i] == nil || errors.Is(errs[i], poller.ErrConflict) || driver != dbtest.Modernc && driver != dbtest.NCruces {
							return
						}
					}
				})
			}
			all.Wait()
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else {
					require.ErrorIs(t, err, poller.ErrConflict)
				}
			}
			require.Equal(t, 1, won)
		}
		var n int
		require.NoError(t, db.Get(&n, `SELECT count(*) FROM orders`))
		require.Equal(t, 10, n)
	})
}

// A session that goes silent in its transaction does not lock the row for ever.
func TestCheckpointAdvanceIdles(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	for _, driver := range d.Drivers() {
		db := d.Open(t, driver)
		silent, next := openCheckpoint(t, db, sqlcheckpoint.Options{}), openCheckpoint(t, db, sqlcheckpoint.Options{})
		at := loadedCursor(t, silent)
		require.Equal(t, at, loadedCursor(t, next))
		var tx *sqlx.Tx
		limit := 300 * time.Millisecond
		for ; ; limit *= 2 { // on a busy machine Advance itself may take that long
			var err error
			tx, err = db.Beginx() // without a context, so that the client does not end it
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			_, err = silent.Advance(ctx, tx, at, "silent")
			cancel()
			if err == nil {
				break
			}
			_ = tx.Rollback() // the session may have ended
			require.Less(t, limit, lab.WaitLimit, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit+lab.WaitLimit)
		require.NoError(t, next.Save(ctx, at, "next "+source.Cursor(driver)), "waits until the server releases the row")
		cancel()
		require.Error(t, tx.Commit())
	}
}
