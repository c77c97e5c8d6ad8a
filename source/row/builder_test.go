package row_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

func scan(b *row.Builder, values ...any) error {
	for i, v := range values {
		if err := b.Dest()[i].(sql.Scanner).Scan(v); err != nil {
			return err
		}
	}
	return nil
}

// Rows keep their values after their batch is complete and after the driver has
// overwritten its buffer, for many batches of many sizes.
func TestRowsOutliveTheirBatch(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	cols := row.NewColumns([]string{"n", "s"}, []row.Kind{row.Auto, row.Text})
	for _, hint := range []int{-1, 0, 1, 7, 100, 5000} {
		b := row.NewBuilder(cols, hint)
		var rows []row.Row
		var want []string
		buffer := make([]byte, 0, 1<<17)
		for range 20 {
			bytes := 0
			before := len(want)
			for range rng.IntN(150) {
				size := rng.IntN(100)
				if rng.IntN(50) == 0 {
					size = rng.IntN(100_000)
				}
				s := strings.Repeat(string(rune('a'+rng.IntN(26))), size)
				buffer = append(buffer[:0], s...)
				require.NoError(t, scan(b, int64(len(want)), buffer))
				clear(buffer)
				bytes += b.Add()
				want = append(want, s)
			}
			assert.Equal(t, len(want)-before, b.Len())
			batch := b.Rows()
			assert.Len(t, batch, len(want)-before)
			text := 0
			for _, s := range want[before:] {
				text += len(s)
			}
			assert.GreaterOrEqual(t, bytes, text)
			rows = append(rows, batch...)
		}
		for i, r := range rows {
			require.Equal(t, fmt.Sprint(i), r.Text(0))
			require.Equal(t, want[i], r.Text(1))
		}
		assert.Nil(t, b.Rows())
	}
}

func TestAFailedScanLeavesNothing(t *testing.T) {
	t.Parallel()
	b := row.NewBuilder(row.NewColumns([]string{"a", "b"}, nil), 10)
	require.NoError(t, scan(b, "one", "1"))
	b.Add()
	require.Error(t, scan(b, "lost", struct{}{}))
	require.NoError(t, scan(b, "half"))
	require.NoError(t, scan(b, "two", "2"))
	b.Add()
	require.NoError(t, scan(b, "never added", "3"))
	rows := b.Rows()
	require.Len(t, rows, 2)
	assert.Equal(t, `{"a":"two","b":"2"}`, appendJSON(t, rows[1]))

	require.NoError(t, scan(b, "three", "3"))
	b.Add()
	assert.Equal(t, `{"a":"three","b":"3"}`, appendJSON(t, b.Rows()[0]))
	assert.Equal(t, `{"a":"two","b":"2"}`, appendJSON(t, rows[1]))
}

func TestMisuseIsNoticed(t *testing.T) {
	t.Parallel()
	b := row.NewBuilder(row.NewColumns([]string{"a", "b"}, nil), 10)
	assert.PanicsWithValue(t, "row: Add after 0 of 2 cells were scanned", func() { b.Add() })
	require.NoError(t, scan(b, 1))
	assert.PanicsWithValue(t, "row: Add after 1 of 2 cells were scanned", func() { b.Add() })
	require.NoError(t, scan(b, 1, 2))
	assert.EqualError(t, b.Dest()[1].(sql.Scanner).Scan(3), `row: column "b" was scanned out of order`)
	b.Add()
	assert.PanicsWithValue(t, "row: Add after 0 of 2 cells were scanned", func() { b.Add() })
}

// A batch needs a few allocations, independent of its number of rows.
func TestAllocations(t *testing.T) {
	const n = 5000
	values := sample()
	b := row.NewBuilder(sampleColumns(), n)
	var rows []row.Row
	perBatch := testing.AllocsPerRun(3, func() {
		for range n {
			if err := scan(b, values...); err != nil {
				t.Fatal(err)
			}
			b.Add()
		}
		rows = b.Rows()
	})
	assert.LessOrEqual(t, perBatch, 20.0, "allocations of a batch of %d rows", n)

	buf := make([]byte, 0, 1<<10)
	assert.Zero(t, testing.AllocsPerRun(100, func() { buf, _ = rows[1].AppendJSON(buf[:0]) }))
	assert.Zero(t, testing.AllocsPerRun(100, func() { buf, _ = rows[1].AppendCSV(buf[:0]) }))
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = rows[1].Text(3) }))
}

// The memory of narrow rows grows by a factor: it is not copied every few rows.
func TestNarrowRowsAreNotCopiedAgainAndAgain(t *testing.T) {
	const n = 50_000
	var values [2]any // 6.9 bytes on average
	b := row.NewBuilder(row.NewColumns([]string{"id", "n"}, []row.Kind{row.Number, row.Number}), n)
	perBatch := testing.AllocsPerRun(3, func() {
		for i := range n {
			values = [2]any{int64(123456), nil}
			if i%10 > 0 {
				values[1] = int64(7)
			}
			if err := scan(b, values[:]...); err != nil {
				t.Fatal(err)
			}
			b.Add()
		}
		b.Rows()
	})
	assert.LessOrEqual(t, perBatch, 30.0, "allocations of a batch of %d rows", n)
}

// sample is a row of the table that the benchmarks use, as lib/pq returns it. Its
// JSON has 254 bytes.
func sample() []any {
	return []any{
		int64(123456789),
		time.Date(2026, 1, 31, 12, 34, 56, 123456000, time.UTC),
		int64(4711),
		"a text of some thirty letters",
		[]byte("12345.67"),
		[]byte(`{"tags": ["red", "green"], "qty": 12, "note": "a short note in a document", "address": {"zip": "10115", "city": "B"}}`),
	}
}

func sampleColumns() *row.Columns {
	return row.NewColumns(
		[]string{"id", "created_at", "customer_id", "title", "amount", "doc"},
		[]row.Kind{row.Auto, row.TimestampTZ, row.Auto, row.Text, row.Number, row.JSONB})
}

// ScanText is Scan of a []byte, for every kind.
func TestScanText(t *testing.T) {
	t.Parallel()
	for kind := row.Auto; kind.String() != fmt.Sprintf("Kind(%d)", kind); kind++ {
		b := row.NewBuilder(row.NewColumns([]string{"a", "b"}, []row.Kind{kind, kind}), 10)
		for _, text := range []string{"", "7", "-007.50", "1e3", "x", `{"a" : 1}`, "\xff\x00", "2026-01-31 12:34:56.70", "12:00:00.10+02"} {
			require.NoError(t, scan(b, []byte(text), []byte(text)))
			b.Add()
			require.Error(t, b.ScanText(1, nil), "out of order")
			require.NoError(t, b.ScanText(0, []byte(text)))
			require.NoError(t, b.ScanText(1, []byte(text)))
			b.Add()
			rows := b.Rows()
			assert.True(t, rows[0].Equal(rows[1]), "%v %q", kind, text)
		}
	}
}
