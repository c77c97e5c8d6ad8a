package pglog_test

import (
	"flag"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

var large = flag.Int("pglog.large", 100_000, "changes of the large transaction")

// A large transaction arrives in batches, is decoded at most twice, and takes little memory in the client.
func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	server := start(t)
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key, v text); create publication p for table t`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t select i, 'some text of a usual length' from generate_series(1, $1::int) i`, *large)
	peak, count, start := uint64(0), 0, time.Now()
	for batches := 0; ; batches++ {
		b, err := lab.Fetch(t, s, at, 5000)
		require.NoError(t, err)
		for i, c := range b.Records {
			if key := count + i + 1; batches%50 == 0 {
				require.Equal(t, []string{"insert"}, []string{c.Op.String()})
				require.Equal(t, c.Row.Text(0), c.Key.Text(0))
				require.Equal(t, key, atoi(c.Key.Text(0)))
			}
		}
		count += len(b.Records)
		at = b.To
		s.Saved(at) // the slot stays before the transaction until its end
		if batches%20 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse+m.StackInuse)
		}
		if !b.More && b.Held == nil {
			break
		}
	}
	assert.Equal(t, *large, count)
	assert.LessOrEqual(t, peak>>20, uint64(64), "MB of memory in use")
	if version(t, db) >= 15 {
		decoded := func() (bytes int64) {
			lab.WaitFor(t, func() bool { // the server's statistics arrive late
				before := bytes
				db.MustExec(`select pg_stat_force_next_flush()`)
				require.NoError(t, db.Get(&bytes, `select total_bytes from pg_stat_replication_slots where slot_name = $1`, s.Slot))
				return bytes > 0 && bytes == before
			})
			return bytes
		}
		whole := decoded()
		db.MustExec(`select count(*) from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'p')`, s.Slot)
		once := decoded() - whole
		require.Positive(t, once)
		assert.LessOrEqual(t, float64(whole)/float64(once), 2.1, "how often the transaction was decoded")
	}
	t.Logf("%d changes in %v, %d MB", count, time.Since(start).Round(time.Millisecond), peak>>20)
}

// A role's limit of the time of statements does not end the decoding.
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	d := start(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t select generate_series(1, 100000)`)
	db.MustExec(`do $$ begin execute format('alter database %I set statement_timeout = 50', current_database()); end $$`)
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		again := open(t, d.Open(t, driver))
		again.Slot = s.Slot
		var b source.Batch[row.Change]
		lab.WaitFor(t, func() (ok bool) { // the limit can end a short statement on a busy machine
			var err error
			b, err = lab.Fetch(t, again, at, 10)
			return err == nil && b.Held == nil
		})
		assert.Len(t, b.Records, 10)
		_ = again.Close()
		var limit string
		lab.WaitFor(t, func() bool { return again.DB.Get(&limit, `show statement_timeout`) == nil })
		assert.Equal(t, "50ms", limit)
	}
}

func atoi(text string) (n int) {
	for _, c := range text {
		n = 10*n + int(c-'0')
	}
	return n
}
