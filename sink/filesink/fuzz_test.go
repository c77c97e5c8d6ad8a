package filesink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"crc32c":"00000000","checkpoint":{}}`), "orders", "v1:42", uint64(3), int64(1000))
	f.Add([]byte{}, "", "", uint64(0), int64(-1))
	f.Fuzz(func(t *testing.T, text []byte, name, cursor string, epoch uint64, offset int64) {
		if c, err := decodeCheckpoint(text); err == nil {
			again, err := c.encode()
			require.NoError(t, err)
			require.NotEmpty(t, again)
		}
		if source.Cursor(cursor).Validate() != nil || !validName.MatchString(name) {
			return
		}
		c := checkpoint{Version: checkpointVersion, Name: name, Segment: 1 + epoch%maxSegment, Offset: offset, Epoch: epoch % 1000}
		c.File = segmentName(name, c.Segment, ".jsonl")
		c.move(durable.State{Cursor: source.Cursor(cursor), Writer: "w", Seq: int64(epoch%1000) + 1}, time.Unix(0, offset).UTC())
		text, err := c.encode()
		require.NoError(t, err)
		got, err := decodeCheckpoint(text)
		if offset < 0 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, c, got)
		text[len(text)/2]++
		_, err = decodeCheckpoint(text)
		require.Error(t, err)
	})
}
