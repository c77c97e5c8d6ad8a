package pglog

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
)

// A slot that the server has invalidated is lost, for whatever reason, and in the words of each version.
func TestInvalidatedSlots(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		`"wal_status": "lost", "conflicting": false, "invalidation_reason": "idle_timeout"`:                      "idle_timeout",            // 18
		`"wal_status": "lost", "conflicting": true, "invalidation_reason": "rows_removed"`:                       "rows_removed",            // 17
		`"wal_status": "reserved", "conflicting": true`:                                                          "conflicts with recovery", // 16
		`"wal_status": "lost", "restart_lsn": null`:                                                              "max_slot_wal_keep_size",  // 13
		`"wal_status": "unreserved", "conflicting": false, "invalidation_reason": null, "restart_lsn": "0/1AB0"`: "",                        // can be read
		`"wal_status": "extended", "conflicting": null, "invalidation_reason": "of a later version"`:             "slot s: of a later version",
	} {
		v := &server{walLevel: "logical", replicates: true, database: "d", slot: &slot{}, publication: &publication{Insert: true, Update: true, Delete: true, Truncate: true}}
		require.NoError(t, v.slot.parse(`{"plugin": "pgoutput", "slot_type": "logical", "database": "d", `+text+`}`))
		err := (&Source{Slot: "s"}).usable(v)
		if part == "" {
			assert.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrSlotLost, text)
		assert.Equal(t, retry.Fatal, retry.Classify(err))
		for _, p := range []string{part, "Drop the slot (pg_drop_replication_slot)", "rewind to the empty cursor"} {
			assert.Contains(t, err.Error(), p)
		}
	}
}
