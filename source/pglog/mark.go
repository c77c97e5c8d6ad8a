package pglog

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

const (
	// markBytes is the length of log after which the server is made to log its running transactions.
	markBytes = 16 << 20

	// markEvery is how often it does so by itself. A mark that failed is tried again after that time.
	markEvery = 15 * time.Second
)

// mark makes the server log its running transactions, where decoding can begin later: restart_lsn moves from one such
// record to the next, and the server writes one every 15 seconds. A temporary slot does that as soon as it is created. It then waits
// for the running transactions, which is not needed: as long as one of them runs, restart_lsn stays before it anyway.
func (s *Source) mark(ctx context.Context, v *server) {
	if v.slot == nil || v.written < max(v.slot.restart, s.marked)+markBytes || time.Since(s.markFailed) < markEvery {
		return
	}
	s.marked = v.written
	err := s.with(ctx, func(db ceiling.Queryer) error {
		err := ceiling.Exec(ctx, db, "BEGIN ISOLATION LEVEL READ COMMITTED")
		defer ceiling.Restore(ctx, db, "ROLLBACK") //nolint:errcheck // the connection has ended then
		if err == nil {
			err = ceiling.Exec(ctx, db, `SELECT set_config('statement_timeout', '500', true)`)
		}
		if err == nil { // an error drops the slot as well
			_, err = ceiling.Texts(ctx, db, `SELECT pg_drop_replication_slot(slot_name)::text FROM pg_create_logical_replication_slot($1::name, 'pgoutput', true)`, fmt.Sprintf("%.58s_mark", s.Slot))
		}
		return err
	})
	if err != nil { // no slot is free, or a transaction goes on: the server's own record will do
		s.markFailed = time.Now()
	}
}
