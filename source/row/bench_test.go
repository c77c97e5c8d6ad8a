package row_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// BenchmarkAppendJSON compares AppendJSON with encoding/json in the same run, for a
// map as MapScan returns it, and for a struct.
func BenchmarkAppendJSON(b *testing.B) {
	values := sample()
	r, err := row.Of(sampleColumns(), values...)
	require.NoError(b, err)
	asMap := map[string]any{}
	for i, v := range values {
		asMap[r.Columns().Name(i)] = v
	}
	asMap["doc"] = json.RawMessage(values[5].([]byte))
	asMap["amount"] = json.Number(values[4].([]byte))
	asStruct := struct {
		ID         int64           `json:"id"`
		CreatedAt  time.Time       `json:"created_at"`
		CustomerID int64           `json:"customer_id"`
		Title      string          `json:"title"`
		Amount     json.Number     `json:"amount"`
		Doc        json.RawMessage `json:"doc"`
	}{values[0].(int64), values[1].(time.Time), values[2].(int64), values[3].(string), "12345.67", values[5].([]byte)}

	var ours, maps, structs time.Duration
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range 100 {
			buf, _ = r.AppendJSON(buf[:0])
		}
		ours += time.Since(start)
		b.StopTimer()
		start = time.Now()
		for range 100 {
			_, _ = json.Marshal(asMap)
		}
		maps += time.Since(start)
		start = time.Now()
		for range 100 {
			_, _ = json.Marshal(asStruct)
		}
		structs += time.Since(start)
		b.StartTimer()
	}
	b.SetBytes(int64(100 * len(buf)))
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N)/100, "ns/row")
	b.ReportMetric(maps.Seconds()/ours.Seconds(), "x-map")
	b.ReportMetric(structs.Seconds()/ours.Seconds(), "x-struct")
}

// BenchmarkAppendCSV writes the same row as CSV.
func BenchmarkAppendCSV(b *testing.B) {
	r, err := row.Of(sampleColumns(), sample()...)
	require.NoError(b, err)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = r.AppendCSV(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkScan fills batches of 5,000 rows. One operation is one row.
func BenchmarkScan(b *testing.B) {
	values := sample()
	builder := row.NewBuilder(sampleColumns(), 5000)
	bytes := 0
	b.ReportAllocs()
	for b.Loop() {
		if err := scan(builder, values...); err != nil {
			b.Fatal(err)
		}
		bytes = builder.Add()
		if builder.Len() == 5000 {
			builder.Rows()
		}
	}
	b.SetBytes(int64(bytes))
}

// BenchmarkAppendJSONText compares AppendJSON with encoding/json for different kinds
// of text.
func BenchmarkAppendJSONText(b *testing.B) {
	for name, s := range map[string]string{
		"ascii":    "The quick brown fox jumps over the lazy dog, and then over 12 more of them.",
		"escapes":  "He said: \"a\tb\\c\",\nand then \"d\". He said: \"a\tb\\c\",\nand then \"d\".",
		"cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
	} {
		b.Run(name, func(b *testing.B) {
			r := of(b, row.Text, s)
			var buf []byte
			var ours, peer time.Duration
			for b.Loop() {
				start := time.Now()
				for range 100 {
					buf, _ = r.AppendJSON(buf[:0])
				}
				ours += time.Since(start)
				b.StopTimer()
				start = time.Now()
				for range 100 {
					_, _ = json.Marshal(s)
				}
				peer += time.Since(start)
				b.StartTimer()
			}
			b.SetBytes(int64(100 * len(buf)))
			b.ReportMetric(peer.Seconds()/ours.Seconds(), "x-encoding/json")
		})
	}
}
