package sqlsource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	myroom "github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	pgroom "github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	literoom "github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

func TestParseCeiling(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ceiling.Ceiling{
		"lock-fence": pgroom.LockFence{}, "transaction-id": pgroom.TransactionID{}, "dirty-probe": myroom.DirtyProbe{},
		"single-writer": literoom.SingleWriter{}, "stamp": pgroom.Stamp{}, "none": ceiling.None{},
		"grace=30s": ceiling.Grace{For: 30 * time.Second}, "lag=5m": ceiling.Lag{By: 5 * time.Minute}, "lag=1h0m0.5s": ceiling.Lag{By: time.Hour + 500*time.Millisecond},
	} {
		got, err := ParseCeiling(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := ParseCeiling(got.String())
		require.NoError(t, err, "its own name: %s", got)
		require.Equal(t, want, again)
	}
	c, err := ParseCeiling("auto")
	require.NoError(t, err)
	require.Nil(t, c)
	for _, text := range []string{"", "Auto", "lockfence", "lock-fence=1s", "none=", "grace", "grace=", "grace=30", "grace=0s", "grace=-1s", "lag=x", "lag =5m", " auto"} {
		c, err := ParseCeiling(text)
		require.Nil(t, c, text)
		require.ErrorContains(t, err, "ceiling: ", text)
		require.ErrorContains(t, err, "want ", text)
	}
}
