package deadletter_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/source"
)

// The ID of a letter does not depend on the cursors, if the record has a key or the
// records are distinct. Otherwise it does: equal records may be different ones.
func TestIDs(t *testing.T) {
	t.Parallel()
	for _, distinct := range []bool{false, true} {
		dir := t.TempDir()
		d, err := deadletter.Open[item](dir, deadletter.Options{Distinct: distinct})
		require.NoError(t, err)
		t.Cleanup(func() { d.Close() })
		write := func(r poller.Rejected[item]) {
			r.To = "item 9"
			require.NoError(t, d.Write(t.Context(), source.Batch[poller.Rejected[item]]{Records: []poller.Rejected[item]{r}}))
		}
		for _, from := range []source.Cursor{"item 1", "item 1 with anchors"} {
			write(poller.Rejected[item]{Key: "id 1", From: from})
			write(poller.Rejected[item]{Key: "id 2", From: from})
		}
		require.Len(t, list(t, dir), 2, "by their keys")
		write(poller.Rejected[item]{Record: item{ID: 3}, From: "item 1", Index: 1})
		write(poller.Rejected[item]{Record: item{ID: 4}, From: "item 2"})
		write(poller.Rejected[item]{Record: item{ID: 3}, From: "item 2"})
		write(poller.Rejected[item]{Record: item{3, math.NaN()}, From: "item 1"})
		write(poller.Rejected[item]{Record: item{4, math.NaN()}, From: "item 2"})
		want := 7
		if distinct {
			want = 6
		}
		require.Len(t, list(t, dir), want)
	}
}
