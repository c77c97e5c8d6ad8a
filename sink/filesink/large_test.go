package filesink_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

func textRow(t *testing.T, id int, kind row.Kind, text string) row.Row {
	t.Helper()
	columns := row.NewColumns([]string{"id", "text"}, []row.Kind{row.Number, kind})
	r, err := row.Of(columns, int64(id), text)
	require.NoError(t, err)
	return r
}

// Large records, and those after them in a batch, have the bytes that the encoder
// appends, in each segment, also after a restart.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	for _, e := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row](), filesink.Gzip(filesink.JSONLines[row.Row]())} {
		dir := t.TempDir()
		o := filesink.Options[row.Row]{Encoder: e, SegmentRows: 5, SegmentAge: -1}
		f, err := filesink.Open(dir, o)
		require.NoError(t, err)
		var want []byte
		id := 0
		for n, sizes := range [][]int{{10}, {10, 2 << 20, 10}, {3 << 20}, {1 << 20, 1 << 20}, {10, 10}, {900_000, 900_000, 900_000, 900_000, 10}} {
			b := source.Batch[row.Row]{From: cursor(n), To: cursor(n + 1)}
			for i, size := range sizes {
				id++
				b.Records = append(b.Records, textRow(t, id, row.Text, strings.Repeat([]string{"\x01", "\"\n", "é"}[i%3], size)))
				want, err = e.Append(want, &b.Records[i])
				require.NoError(t, err)
			}
			require.NoError(t, f.Write(t.Context(), b))
			require.NoError(t, f.Close())
			f, err = filesink.Open(dir, o) // checks the last write
			require.NoError(t, err)
		}
		require.NoError(t, f.Seal(t.Context()))
		require.NoError(t, f.Close())
		if e.Extension() != ".jsonl.gz" {
			require.Equal(t, string(want), texts(t, dir, e.Extension()))
		}
	}
}

// texts returns the text of all segments, without headers.
func texts(t *testing.T, dir, extension string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+extension))
	require.NoError(t, err)
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		all.WriteString(strings.TrimPrefix(string(text), "id,text\r\n"))
	}
	return all.String()
}

// A large record that cannot be encoded is rejected, and nothing of its batch is stored.
func TestLargeRecordIsRejected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := filesink.Open(dir, filesink.Options[row.Row]{})
	require.NoError(t, err)
	defer f.Close()
	bad := textRow(t, 2, row.JSONB, `{"a":`+strings.Repeat("\n", 1<<20)+`1}`)
	for _, last := range []row.Row{bad, {}} {
		records := []row.Row{textRow(t, 1, row.JSONB, strings.Repeat("1", 1<<20)), last}
		err = f.Write(t.Context(), source.Batch[row.Row]{To: cursor(1), Records: records})
		require.ErrorIs(t, err, sink.ErrRejected)
		require.ErrorContains(t, err, "record 2 of 2 cannot be encoded as jsonl")
		parts, err := filesink.Committed(dir)
		require.NoError(t, err)
		require.Empty(t, parts)
	}
}

// The memory for the encoded form does not grow with the batch, nor with its largest
// record: a control character takes six bytes of JSON.
func TestMemoryOfLargeBatch(t *testing.T) {
	if testing.Short() {
		t.Skip("it encodes 500 MB")
	}
	f, err := filesink.Open(t.TempDir(), filesink.Options[row.Row]{SegmentAge: -1})
	require.NoError(t, err)
	defer f.Close()
	b := source.Batch[row.Row]{To: cursor(1), Records: []row.Row{textRow(t, 0, row.Text, strings.Repeat("\x01", 30<<20))}}
	text := strings.Repeat("\x02", 600_000)
	for i := range 90 {
		b.Records = append(b.Records, textRow(t, i+1, row.Text, text))
	}
	before := allocated()
	require.NoError(t, f.Write(t.Context(), b))
	require.Less(t, allocated()-before, uint64(120<<20), fmt.Sprint(len(b.Records)))
}

// allocated returns how many bytes the process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
