package pglog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

const (
	// markBytes is the length of log after which the server is made to log its running transactions.
	markBytes = 16 << 20

	// markEvery is how often it does so without a mark. A mark that failed is tried again after that time.
	markEvery = 15 * time.Second
)

// markQuery creates a temporary slot and drops it. It does nothing unless two slots are free, because another program
// may need one, or while another Source does the same, because its record is for all slots. The server checks that
// before it calls the function.
const markQuery = `SELECT pg_drop_replication_slot(slot_name)::text FROM pg_create_logical_replication_slot($1::name, 'pgoutput', true)
	WHERE (SELECT count(*) + 2 <= current_setting('max_replication_slots')::int AND count(*) FILTER (WHERE temporary AND starts_with(slot_name::text, 'pglog_mark_')) = 0
		FROM pg_catalog.pg_replication_slots)`

// mark makes the server log its running transactions, where decoding can begin later: restart_lsn moves from one such
// record to the next, and the server writes one every 15 seconds. A temporary slot does that as soon as it is created. It then waits
// for the running transactions, which is not needed: as long as one of them runs, restart_lsn stays before it anyway.
func (s *Source) mark(ctx context.Context, v *server) {
	if v.written < max(v.slot.restart, s.marked)+markBytes || time.Since(s.markFailed) < markEvery {
		return
	}
	s.marked = v.written
	err := s.with(ctx, func(db session) error {
		err := ceiling.Exec(ctx, db, "BEGIN ISOLATION LEVEL READ COMMITTED")
		defer db.rollback(ctx)
		if err == nil {
			err = ceiling.Exec(ctx, db, `SELECT set_config('statement_timeout', '500', true)`)
		}
		if err == nil { // an error drops the slot as well
			_, err = ceiling.Texts(ctx, db, markQuery, fmt.Sprintf("pglog_mark_%016x", rand.Uint64()))
		}
		return err
	})
	if err != nil { // a transaction goes on: the server's own record will do
		s.markFailed = time.Now()
	}
}
