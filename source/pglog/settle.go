package pglog

import (
	"context"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// settling waits for the transactions that were running after the slot was there. The record of a commit is in the
// log before the transaction is visible: in between it waits for the disk, or for a synchronous standby. Such a
// transaction can be in the log before the slot's position, and not in a snapshot that is taken later.
type settling struct {
	slot  lsn // its position when the transactions were listed
	next  uint64
	since time.Time
}

// settleWait is how long a Fetch waits for transactions that end soon.
const settleWait = time.Second

// settle waits until a snapshot sees every transaction whose commit record is before the slot's position. It returns
// who keeps it waiting, nil if that is so.
func (s *Source) settle(ctx context.Context, v *server) (*source.Held, error) {
	var held *source.Held
	err := s.with(ctx, func(db session) error {
		if s.settling.slot != v.slot.confirmed {
			// A snapshot does not have the next id: it may end at the oldest transaction that is running.
			next, err := number(ctx, db, `SELECT pg_current_xact_id()::text`)
			if err != nil {
				return err
			}
			s.settling = settling{v.slot.confirmed, next, time.Now()}
		}
		for start := time.Now(); ; {
			oldest, err := number(ctx, db, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text`)
			if err != nil || oldest >= s.settling.next {
				return err
			}
			if time.Since(start) > settleWait {
				who, err := ceiling.Texts(ctx, db, writersQuery)
				held = &source.Held{Since: s.settling.since, Retry: time.Second, By: who}
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return held, err
}

const writersQuery = `SELECT who FROM (
		SELECT 'pid ' || pid || ' (' || COALESCE(application_name, '') || '), in a transaction that writes' AS who, age(backend_xid) AS age FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL
		UNION ALL SELECT 'the prepared transaction ' || gid, age(transaction) FROM pg_catalog.pg_prepared_xacts
	) AS t ORDER BY age DESC LIMIT 5`

// number reads the id of a transaction.
func number(ctx context.Context, db ceiling.Queryer, query string) (n uint64, err error) {
	var text string
	if err = db.QueryRowContext(ctx, query).Scan(&text); err == nil {
		n, err = strconv.ParseUint(text, 10, 64)
	}
	return n, err
}
