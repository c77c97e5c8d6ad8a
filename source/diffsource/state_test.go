package diffsource

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/disktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// written returns a state of three segments, and its entries.
func written(t *testing.T, disk *disktest.Disk) (*store, cursor, []entry) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 1)).Uint64
	s := &store{dir: modelDisk{disk}, path: "state", table: "t", random: random}
	at := cursor{lineage: 7, pass: 2}
	var all []entry
	for segment := range 3 {
		w := s.create(at)
		for n := range 3000 {
			e := entry{key: sqlsource.Key(fmt.Sprintf("i%d;", segment*10_000+n-500)), digest: digest{byte(n), byte(segment)}}
			switch {
			case n%1000 == 999:
				e.key = sqlsource.Key("s" + strings.Repeat("k", n) + ";i7;")
			case n%1000 == 998:
				e.key = "i99999999999999999999;" // no integer of 64 bits
			}
			require.NoError(t, w.add(e, n%3 == 0))
			all = append(all, e)
		}
		place, err := w.sync()
		require.NoError(t, err)
		at.state, at.entries = place, w.entries()
		require.NoError(t, w.add(entry{key: "i0;"}, true))
		_, err = w.sync() // a batch that is not saved
		require.NoError(t, err)
		require.NoError(t, w.close())
	}
	require.Len(t, all, int(at.entries))
	return s, at, all
}

func readState(s *store, at cursor, skip uint64) (all []entry, err error) {
	err = s.each(context.Background(), at.lineage, at.pass, at.state, skip, func(_ uint64, e entry) { all = append(all, e) })
	return all, err
}

func TestStateIsReadFromEachEntry(t *testing.T) {
	t.Parallel()
	s, at, all := written(t, disktest.New(rand.New(rand.NewPCG(1, 2))))
	for _, skip := range []int{0, 1, 998, 999, 1000, 2999, 3000, 3001, 8999, 9000} {
		got, err := readState(s, at, uint64(skip))
		require.NoError(t, err)
		require.True(t, slices.Equal(all[skip:], got), "from %d", skip)
	}
	require.NoError(t, s.verify(at))
}

// Damage is never read as a state: it is found, or it is in a part that is not read.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	disk := disktest.New(rng)
	s, at, all := written(t, disk)
	names := disk.Names()
	found := 0
	for range 60 {
		name := names[rng.IntN(len(names))]
		before := []byte(disk.Content(name))
		replace(t, disk, name, disktest.Mutate(rng, before))
		got, err := readState(s, at, 0)
		if err != nil {
			require.ErrorIs(t, err, ErrState)
			found++
		} else {
			require.True(t, slices.Equal(all, got))
		}
		replace(t, disk, name, before)
	}
	require.Greater(t, found, 40)
}

func replace(t *testing.T, disk *disktest.Disk, name string, content []byte) {
	t.Helper()
	disk.Take(name)
	f, err := disk.Create(name)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close(), disk.Sync()))
}

func FuzzCursor(f *testing.F) {
	c := cursor{lineage: 1, pass: 2, began: 3, last: 4, state: place{5, 6}, entries: 7, base: place{8, 9}, taken: 10, complete: true, key: "i42;sx%3B;"}
	good := c.encode("0011aabb")
	f.Add(string(good))
	f.Add(strings.Replace(string(good), "d1;", "d2;", 1))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := decode(source.Cursor(text), "0011aabb")
		if err == nil && got.encode("0011aabb") != source.Cursor(text) {
			t.Errorf("%q is read as %+v", text, got)
		}
	})
	if got, err := decode(good, "0011aabb"); err != nil || got != c {
		f.Errorf("%+v, %v", got, err)
	}
	if _, err := decode(good, "another"); err == nil {
		f.Error("the cursor of another table is accepted")
	}
}
