package row_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// checked are the kinds whose text this package validates: all except JSONB.
var checked = []row.Kind{row.Auto, row.Text, row.Number, row.Float32, row.Bit, row.Bytes, row.JSON,
	row.Date, row.Time, row.TimeTZ, row.Timestamp, row.TimestampTZ}

// anyRow returns a row with a value of every Go type, all of one kind.
func anyRow(t *testing.T, kind uint8, name, s string, raw []byte, n int64, f float64, nsec int64) row.Row {
	values := []any{s, raw, n, uint64(n), f, float32(f), n%2 == 0, nil,
		time.Unix(n%1e13, nsec).In(time.FixedZone("", int(nsec%50_000)))}
	names := make([]string, len(values))
	kinds := make([]row.Kind, len(values))
	for i := range values {
		names[i] = name
		kinds[i] = checked[int(kind)%len(checked)]
	}
	r, err := row.Of(row.NewColumns(names, kinds), values...)
	require.NoError(t, err)
	return r
}

func seeds(f *testing.F) {
	for kind := range checked {
		k := uint8(kind)
		f.Add(k, "c", "plain", []byte("bytes"), int64(1), 1.5, int64(5))
		f.Add(k, "", "", []byte{}, int64(0), 0.0, int64(0))
		f.Add(k, "na\"me", "2026-01-31 12:00:00.120-03", []byte("0012.50"), int64(math.MinInt64), math.Inf(-1), int64(999999999))
		f.Add(k, "\xff", "caf\xe9\n", []byte("{ \"a\": \"\\\\\" ,\r\n\"b\":[1 ,2]}"), int64(math.MaxInt64), math.NaN(), int64(-1))
		f.Add(k, "x,y", " \"\r\n", []byte("\"\\u2028\u2028\""), int64(-62135596801), 1e-7, int64(120_000_000))
		f.Add(k, "😀", "23:59:59.900+05", []byte("\\."), int64(-9e12), math.SmallestNonzeroFloat64, int64(1))
		f.Add(k, "é\n", "Съешь же ещё этих \"мягких\" булок\x01", []byte("-0"), int64(1e12), math.Copysign(0, -1), int64(1))
	}
}

// AppendJSON appends one line of valid JSON. An independent decoder reads the same
// names and texts from it, in the same order.
func FuzzAppendJSON(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, kind uint8, name, s string, raw []byte, n int64, x float64, nsec int64) {
		r := anyRow(t, kind, name, s, raw, n, x, nsec)
		line, err := r.AppendJSON([]byte("before"))
		require.NoError(t, err)
		line, ok := bytes.CutPrefix(line, []byte("before"))
		require.True(t, ok)
		require.NotContains(t, string(line), "\n")
		require.True(t, utf8.Valid(line))
		var written bytes.Buffer
		require.NoError(t, r.WriteJSON(&written))
		require.Equal(t, string(line), written.String())

		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		token, err := d.Token()
		require.NoError(t, err)
		require.Equal(t, json.Delim('{'), token)
		for i := range r.Len() {
			token, err := d.Token()
			require.NoError(t, err)
			require.Equal(t, r.Columns().Name(i), token)
			require.NoError(t, sameJSON(d, r, i), "column %d of %s", i, line)
		}
		token, err = d.Token()
		require.NoError(t, err)
		require.Equal(t, json.Delim('}'), token)
		require.False(t, d.More())
	})
}

// sameJSON decodes one value, and compares it with the text of column i.
func sameJSON(d *json.Decoder, r row.Row, i int) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	want := r.Text(i)
	if string(raw) == "null" && r.IsNull(i) && want == "" {
		return nil
	}
	if r.Columns().Kind(i) == row.JSON && utf8.ValidString(want) && json.Valid([]byte(want)) {
		if string(raw) == want {
			return nil
		}
	}
	var got string
	switch raw[0] {
	case '"':
		if err := json.Unmarshal(raw, &got); err != nil {
			return err
		}
	case '{':
		var o struct {
			Base64 []byte `json:"base64"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return err
		}
		if got = string(o.Base64); utf8.ValidString(got) {
			return fmt.Errorf("an object for the valid text %q", got)
		}
	default: // a number or a bool
		got = string(raw)
	}
	if got != want || r.IsNull(i) {
		return fmt.Errorf("%s for %q (NULL: %v)", raw, want, r.IsNull(i))
	}
	return nil
}

// A value of kind JSON is compacted exactly as encoding/json compacts it.
func FuzzCompact(f *testing.F) {
	f.Add([]byte("{ \"a\" : [ 1 , \"\\\" \\\\\" ] }\n"))
	f.Add([]byte("[\"\\u0000\", -0.10e+7,\t{}, [], true, null]"))
	f.Fuzz(func(t *testing.T, s []byte) {
		r := of(t, row.JSON, s)
		if !json.Valid(s) || !utf8.Valid(s) {
			require.Equal(t, string(s), r.Text(0))
			return
		}
		var want bytes.Buffer
		require.NoError(t, json.Compact(&want, s))
		require.Equal(t, want.String(), r.Text(0))
		require.Equal(t, `{"c":`+want.String()+`}`, appendJSON(t, r))
	})
}

// AppendCSV appends a record with the same texts for a parser of RFC 4180 that
// distinguishes NULL from the empty string, and for encoding/csv, which does not.
func FuzzAppendCSV(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, kind uint8, name, s string, raw []byte, n int64, x float64, nsec int64) {
		r := anyRow(t, kind, name, s, raw, n, x, nsec)
		file, err := r.AppendCSV(r.AppendCSVHeader(nil))
		require.NoError(t, err)

		written := bytes.NewBuffer(r.AppendCSVHeader(nil))
		require.NoError(t, r.WriteCSV(written))
		require.Equal(t, string(file), written.String())

		header, rest, err := parseRecord(string(file))
		require.NoError(t, err)
		fields, rest, err := parseRecord(rest)
		require.NoError(t, err)
		require.Empty(t, rest)
		records, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
		require.NoError(t, err)
		require.Len(t, records, 2)
		for _, got := range [][]field{header, fields} {
			require.Len(t, got, r.Len())
		}
		for i := range r.Len() {
			require.Equal(t, r.Columns().Name(i), header[i].text)
			require.Equal(t, field{r.Text(i), r.IsNull(i)}, fields[i])
			// encoding/csv changes CR LF to LF inside quotes.
			require.Equal(t, strings.ReplaceAll(r.Columns().Name(i), "\r\n", "\n"), records[0][i])
			require.Equal(t, strings.ReplaceAll(r.Text(i), "\r\n", "\n"), records[1][i])
		}
	})
}

type field struct {
	text string
	null bool
}

// parseRecord reads one record by the grammar of RFC 4180, section 2.
func parseRecord(s string) (fields []field, rest string, err error) {
	for {
		var f field
		if strings.HasPrefix(s, `"`) {
			var text strings.Builder
			for s = s[1:]; ; {
				i := strings.IndexByte(s, '"')
				if i < 0 {
					return nil, "", fmt.Errorf("a quote is not closed")
				}
				text.WriteString(s[:i])
				if s = s[i+1:]; !strings.HasPrefix(s, `"`) {
					break
				}
				text.WriteByte('"')
				s = s[1:]
			}
			f.text = text.String()
		} else {
			i := strings.IndexAny(s, ",\r\n\"")
			if i < 0 {
				return nil, "", fmt.Errorf("a record has no end")
			}
			f.text, s = s[:i], s[i:]
			f.null = f.text == ""
		}
		fields = append(fields, f)
		switch {
		case strings.HasPrefix(s, ","):
			s = s[1:]
		case strings.HasPrefix(s, "\r\n"):
			return fields, s[2:], nil
		default:
			return nil, "", fmt.Errorf("%.10q after a field", s)
		}
	}
}

// Binary data can be decoded from its base64.
func FuzzBytes(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0xff, '\n'})
	f.Fuzz(func(t *testing.T, s []byte) {
		got, err := base64.StdEncoding.DecodeString(of(t, row.Bytes, append([]byte{}, s...)).Text(0))
		require.NoError(t, err)
		require.Equal(t, string(s), string(got))
	})
}
