package diffsource

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// paged is a table whose rows share the memory of their page, as those of a database do.
type paged struct{ *fakeTable }

func (p paged) FetchKeyed(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], []sqlsource.Key, error) {
	b, keys, err := p.fakeTable.FetchKeyed(ctx, after, limit)
	b.Records, b.Bytes = row.Pick(b.Records, 0, 1), 0
	for _, r := range b.Records {
		b.Bytes += r.Size()
	}
	return b, keys, err
}

// A batch of few changes does not keep the pages in memory of which they are. It is not parallel, because the memory
// is that of the process.
func TestFewChangesDoNotPinTheirPages(t *testing.T) {
	const n, size = 1000, 32 << 10
	rows := map[sqlsource.Key]string{}
	key := func(i int) sqlsource.Key { return sqlsource.Key(fmt.Sprintf("i%d;", i)) }
	for i := range n {
		rows[key(i)] = strings.Repeat("v", size)
	}
	s, table := sourceOf(t, rows)
	s.table, s.tuning.pageRows, s.tuning.scanFor = paged{table}, 25, time.Hour
	var at source.Cursor
	for more := true; more; {
		b, err := s.Fetch(t.Context(), at, n)
		require.NoError(t, err)
		at, more = b.To, b.More
	}
	for i := 0; i < n; i += 25 {
		rows[key(i)] = fmt.Sprint("changed ", i)
	}
	alive := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := alive()
	b, err := s.Fetch(t.Context(), at, n)
	require.NoError(t, err)
	require.Len(t, b.Records, n/25)
	require.Less(t, alive(), before+n*size/4)
	for i, c := range b.Records {
		require.Equal(t, fmt.Sprint("changed ", 25*i), c.Row.Text(1))
		require.Equal(t, fmt.Sprint(25*i), c.Key.Text(0))
	}
}
