package diffsource

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/diffsource"
)

var memoryRows = flag.Int("diffsource.rows", 200_000, "how many rows the table of TestMemory has")

// memory is what the runtime has taken from the system and not given back.
func memory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// The memory of a Source is bounded, whatever the number of rows and of changes. It is not parallel, because the
// memory is that of the process.
func TestMemory(t *testing.T) {
	most := int64(32 << 20) // this few rows would fit into 64 MB
	if *memoryRows >= 1_000_000 {
		most = 64 << 20
	}
	db := lab.DatabaseFor(t, dbtest.PGX).Open(t, dbtest.PGX)
	db.MustExec(`create table t as select i as id, i % 7 as n, 'row ' || i as note from generate_series(1, $1::bigint) i`, *memoryRows)
	db.MustExec(`alter table t add primary key (id)`)
	dir := t.TempDir()
	runtime.GC()
	before := memory()
	peak := int64(0)
	pass := func(s *diffsource.Source, at source.Cursor, want int) source.Cursor {
		n, began := 0, time.Now()
		for {
			b, err := s.Fetch(context.Background(), at, 5000)
			require.NoError(t, err)
			for _, c := range b.Records {
				require.NotZero(t, c.Op)
			}
			n, at, peak = n+len(b.Records), b.To, max(peak, memory()-before)
			if !b.More {
				break
			}
		}
		require.Equal(t, want, n)
		t.Logf("%d changes in %v; peak %d MB", n, time.Since(began).Round(time.Millisecond), peak>>20)
		return at
	}
	s := open(t, db, dir, "t", "id")
	at := pass(s, "", *memoryRows)
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(dir, "*.state"))
	require.NoError(t, err)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		size += info.Size()
	}
	require.InDelta(t, 24, float64(size)/float64(*memoryRows), 0.1, "bytes of state for a row")
	db.MustExec(`update t set note = 'changed' where id % 100 = 0`)
	at = pass(s, at, *memoryRows/100)
	db.MustExec(`truncate t`)
	pass(s, at, *memoryRows)
	require.NoError(t, s.Close())
	require.Less(t, peak, most)
}
