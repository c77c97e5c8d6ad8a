package filesink_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

type wide struct {
	ID       int64           `json:"id"`
	Created  time.Time       `json:"created"`
	Customer int64           `json:"customer"`
	Note     string          `json:"note"`
	Amount   json.Number     `json:"amount"`
	Payload  json.RawMessage `json:"payload"`
}

const payload = `{"items": [{"sku": "A-1001", "n": 2}, {"sku": "B-2002", "n": 1}], "channel": "web", "coupon": null, "gift": false, "v": 3}`

var (
	epoch       = time.Date(2026, 1, 1, 0, 0, 0, 123456000, time.UTC)
	wideColumns = row.NewColumns([]string{"id", "created", "customer", "note", "amount", "payload"},
		[]row.Kind{row.Auto, row.TimestampTZ, row.Auto, row.Text, row.Number, row.JSONB})
)

func wideStruct(i int) wide {
	return wide{int64(i), epoch, int64(i % 1000), fmt.Sprintf("order number %d of a customer", i), "1234.50", json.RawMessage(payload)}
}

func wideRow(b *testing.B, i int) row.Row {
	r, err := row.Of(wideColumns, int64(i), epoch, int64(i%1000), fmt.Sprintf("order number %d of a customer", i), "1234.50", payload)
	require.NoError(b, err)
	return r
}

const benchRows = 5000

// BenchmarkWrite writes batches of 5,000 records, durably, and in turn the same
// structs through encoding/json and bufio, without a sync. "x" is the ratio of the
// two in records per second.
func BenchmarkWrite(b *testing.B) {
	structs, rows := make([]wide, benchRows), make([]row.Row, benchRows)
	for i := range benchRows {
		structs[i], rows[i] = wideStruct(1e6+i), wideRow(b, 1e6+i)
	}
	b.Run("struct", func(b *testing.B) { benchmarkWrite(b, nil, structs, structs) })
	b.Run("row", func(b *testing.B) { benchmarkWrite(b, nil, rows, structs) })
	b.Run("row to csv", func(b *testing.B) { benchmarkWrite(b, filesink.CSV[row.Row](), rows, structs) })
}

func benchmarkWrite[T any](b *testing.B, e filesink.Encoder[T], records []T, structs []wide) {
	f, err := filesink.Open(b.TempDir(), filesink.Options[T]{Encoder: e})
	require.NoError(b, err)
	defer f.Close()
	peer, err := os.Create(filepath.Join(b.TempDir(), "peer"))
	require.NoError(b, err)
	defer peer.Close()
	var ours, theirs time.Duration
	at, size := 0, int64(0)
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		if err := f.Write(context.Background(), source.Batch[T]{From: cursor(at), To: cursor(at + 1), Records: records, More: true}); err != nil {
			b.Fatal(err)
		}
		at++
		middle := time.Now()
		w := bufio.NewWriterSize(peer, 64<<10)
		encoder := json.NewEncoder(w)
		for i := range structs {
			if err := encoder.Encode(&structs[i]); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		ours, theirs = ours+middle.Sub(start), theirs+time.Since(middle)
	}
	info, err := peer.Stat()
	require.NoError(b, err)
	size = info.Size()
	n := float64(b.N) * benchRows
	b.ReportMetric(n/ours.Seconds(), "records/s")
	b.ReportMetric(float64(size)/n, "peer-bytes/record")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCommit measures the cost of a batch that does not depend on its size.
func BenchmarkCommit(b *testing.B) {
	f, err := filesink.Open(b.TempDir(), filesink.Options[order]{})
	require.NoError(b, err)
	defer f.Close()
	at := 0
	for b.Loop() {
		if err := f.Write(context.Background(), batch(at, at+1)); err != nil {
			b.Fatal(err)
		}
		at++
	}
}
