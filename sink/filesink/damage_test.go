package filesink_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/sink/filesink"
)

// A damaged checkpoint is an error.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	whole, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	require.NoError(t, err)
	for seed := range uint64(10_000) {
		text := disktest.Mutate(rand.New(rand.NewPCG(seed, 1)), whole)
		if string(text) != string(whole) {
			require.Error(t, filesink.DecodeText(text), "seed %d: %s", seed, text)
		}
	}
}

// unpublished returns the files of a directory with one sealed segment, one whose
// final name is missing, and an open one with bytes that are not committed.
func unpublished(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	f := open(t, dir, filesink.Options[order]{Name: "orders", SegmentRows: 3})
	require.NoError(t, f.Write(t.Context(), batch(0, 3)))
	require.NoError(t, f.Write(t.Context(), batch(3, 5)))
	require.NoError(t, f.Close())
	f = open(t, dir, filesink.Options[order]{Encoder: named{".txt"}})
	require.NoError(t, f.Write(t.Context(), batch(5, 7)))
	state := files(t, dir)
	require.NoError(t, f.Close())
	state[second+".open"] = state[second]
	delete(state, second)
	state["orders-0000000003.txt.open"] += "never committed"
	state["orders-0000000004.jsonl.open"] = "never committed"
	state[".checkpoint.0.tmp"] = "never committed"
	require.Len(t, state, 6)
	return state
}

// Whatever is damaged, Open either recovers or changes no file.
func TestRefusalChangesNothing(t *testing.T) {
	t.Parallel()
	seeds := uint64(2_000)
	if testing.Short() {
		seeds = 300
	}
	whole, refused := unpublished(t), 0
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 2))
		dir, state := filepath.Join(t.TempDir()), maps.Clone(whole)
		names := slices.Sorted(maps.Keys(state))
		for range 1 + rng.IntN(2) {
			name, other := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
			switch rng.IntN(5) {
			case 0:
				delete(state, name)
			case 1: // put back, or moved away
				state[other] = state[name]
			case 2:
				state["checkpoint"] = wrong(t, rng, whole["checkpoint"])
			default:
				state[name] = string(disktest.Mutate(rng, []byte(state[name])))
			}
		}
		for name, text := range state {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		f, err := filesink.Open(dir, filesink.Options[order]{Name: "orders"})
		if err == nil {
			require.NoError(t, f.Close())
			continue
		}
		refused++
		require.Equal(t, state, files(t, dir), "seed %d: %v", seed, err)
	}
	require.Greater(t, refused, int(seeds)/3)
	t.Logf("%d of %d were refused", refused, seeds)
}

// wrong returns a checkpoint with another value somewhere, and the right checksum.
func wrong(t *testing.T, rng *rand.Rand, text string) string {
	t.Helper()
	body, err := durable.VerifyChecksum([]byte(text))
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(body, &c))
	in := c
	if rng.IntN(2) == 0 {
		in = c["sealed"].([]any)[0].(map[string]any)
	}
	keys := slices.Sorted(maps.Keys(in))
	values := []any{-1, 0, 1, 1 << 40, int64(math.MaxInt64), uint64(math.MaxUint64), "", "checkpoint", "../x", "x", nil, "orders-0000000001.jsonl", []int{}}
	in[keys[rng.IntN(len(keys))]] = values[rng.IntN(len(values))]
	body, err = json.Marshal(c)
	require.NoError(t, err)
	return string(durable.AddChecksum(body))
}

// The last write of a sealed segment without its final name is compared, too.
func TestOpenRefusesAChangedSealedSegment(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), unpublished(t)
	state[second+".open"] = lines(3, 4) + "{\"id\":6}\n"
	for name, text := range state {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	requireRefused(t, dir, fmt.Sprintf("the last %d bytes of %s.open have changed since they were written", len(lines(3, 5)), second))
}
