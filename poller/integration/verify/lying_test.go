package verify

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/verify"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// lie returns what a disk has stored that has confirmed all of text.
func lie(random *rand.Rand, text []byte) []byte {
	bad := slices.Clone(text)
	at := random.IntN(len(bad))
	switch random.IntN(5) {
	case 0: // a block was not written
		clear(bad[at:min(at+1+random.IntN(64), len(bad))])
	case 1: // the end was not written
		return bad[:at]
	case 2: // a line was not written
		lines := bytes.SplitAfter(bad, []byte("\n"))
		at = random.IntN(len(lines) - 1)
		return bytes.Join(slices.Delete(lines, at, at+1), nil)
	default:
		bad[at] ^= 1 << random.IntN(8)
	}
	return bad
}

// A write that was confirmed and is not on the disk is found, and so is a flipped bit, anywhere in the
// files and in any format.
func TestALyingWriteIsFound(t *testing.T) {
	t.Parallel()
	db := lab.DatabaseFor(t, dbtest.NCruces).Open(t, dbtest.NCruces)
	db.MustExec(`CREATE TABLE orders (id integer PRIMARY KEY AUTOINCREMENT, name text, note text)`)
	for i := range 70 {
		db.MustExec(`INSERT INTO orders (name, note) VALUES (?, ?)`, fmt.Sprint("order ", i), []any{nil, "a, \"b\"\r\n", "é", ""}[i%4])
	}
	lies := 400
	if testing.Short() {
		lies = 80
	}
	for _, format := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row]()} {
		c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
		c.o.Encoder, c.o.SegmentRows = format, 25
		c.drain()
		require.True(t, c.verify().Equal())
		for n := range 3 {
			c.findsLie(n+1, func([]byte) []byte { return nil })
		}
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		for range lies {
			n := 1 + random.IntN(3) // the last one is open
			c.findsLie(n, func(text []byte) []byte { return lie(random, text) }, "seed", seed)
		}
	}
}

// findsLie replaces the text of a segment, requires that this is found, and restores it.
func (c *copying) findsLie(n int, change func([]byte) []byte, about ...any) {
	c.t.Helper()
	path := c.segment(n)
	good, err := os.ReadFile(path)
	require.NoError(c.t, err)
	bad := change(good)
	require.NoError(c.t, os.WriteFile(path, bad, 0o600))
	r, err := verify.Files(c.t.Context(), c.settings(), c.dir, 0)
	require.True(c.t, err != nil || !r.Equal(), "%v, segment %d: %s\n%q", about, n, r, bad)
	if err != nil {
		require.ErrorContains(c.t, err, filepath.Base(strings.TrimSuffix(path, ".open")))
	}
	require.NoError(c.t, os.WriteFile(path, good, 0o600))
}
