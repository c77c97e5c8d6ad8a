package verify

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
)

// difficult are rows whose values need quotes and escapes.
func difficult(t testing.TB) []row.Row {
	columns := row.NewColumns([]string{"id", `na"me`, "data", "größe"}, []row.Kind{row.Number, row.Text, row.JSONB, row.Text})
	var rows []row.Row
	for _, values := range [][]any{
		{[]byte("1"), `plain`, []byte(`{"a": [1, "}", {"b": null}]}`), `é`},
		{[]byte("2"), ``, nil, `a,b`},
		{[]byte("3"), "line\r\nbreak \"quoted\"", []byte(`[]`), `"`},
		{[]byte("4"), "\xff\x00", []byte(`"\\\""`), "日本\n"},
		{[]byte("5"), `\`, []byte(`1.5`), ` `},
	} {
		r, err := row.Of(columns, values...)
		require.NoError(t, err)
		rows = append(rows, r)
	}
	return rows
}

// What the encoders write is read back: records, keys and columns.
func TestFormats(t *testing.T) {
	t.Parallel()
	for _, e := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row]()} {
		rows := difficult(t)
		text, err := e.Header(nil, &rows[0])
		require.NoError(t, err)
		var records []string
		for i := range rows {
			before := len(text)
			text, err = e.Append(text, &rows[i])
			require.NoError(t, err)
			records = append(records, string(text[before:]))
		}
		f, err := newFormat(bytes.NewReader(text), e.Extension() == ".csv")
		require.NoError(t, err)
		for i, r := range rows {
			record, err := f.next()
			require.NoError(t, err)
			require.Equal(t, records[i], string(record))
			key, ok := f.key(record, []string{"größe", "id"})
			require.True(t, ok)
			require.Equal(t, []string{r.Text(3), r.Text(0)}, key)
			_, ok = f.key(record, []string{"id", "nosuch"})
			require.False(t, ok)
		}
		_, err = f.next()
		require.ErrorIs(t, err, io.EOF)
	}
}

// Damage never hides more than the records that it touches, or, in CSV, those up to
// the next quote.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	for _, e := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row]()} {
		rows := difficult(t)
		header, err := e.Header(nil, &rows[0])
		require.NoError(t, err)
		text := slices.Clone(header)
		for i := range rows {
			text, err = e.Append(text, &rows[i])
			require.NoError(t, err)
		}
		for i := range text[len(header):] {
			damaged := slices.Clone(text)
			damaged[len(header)+i] ^= 1 << (i % 8)
			var all []byte
			f, err := newFormat(bytes.NewReader(damaged), e.Extension() == ".csv")
			require.NoError(t, err)
			for {
				record, err := f.next()
				if err != nil {
					require.ErrorIs(t, err, io.EOF)
					break
				}
				all = append(all, record...)
				f.key(record, []string{"id"})
			}
			require.Equal(t, string(damaged[len(header):]), string(all), "nothing is dropped")
		}
	}
}

func TestDamagedFields(t *testing.T) {
	t.Parallel()
	for _, record := range []string{"", "\n", "{}\n", "{\n", "}\n", `{"id"}` + "\n", `{"id":}` + "\n", `{"id":1` + "\n", `{"id":1}`, `{"id":1},` + "\n", `{"id":"1}` + "\n",
		`{id:1}` + "\n", `{"id":1 "a":2}` + "\n", `{"id":[1}` + "\n", `"id":1}` + "\n", `{"id":1,}` + "\n"} {
		_, ok := (&format{}).key([]byte(record), []string{"id"})
		assert.False(t, ok, "%q", record)
	}
	for _, record := range []string{"", "1,2", "1,2\n", "1\r\n", "1,2,3\r\n", "\"1,2\r\n", "\"1\"2,3\r\n", "1,\"2\r\n", "1\",2\r\n", "1,2\r\n\r\n"} {
		_, ok := (&format{csv: true, columns: []string{"id", "name"}}).key([]byte(record), []string{"id"})
		assert.False(t, ok, "%q", record)
	}
}

func FuzzFields(f *testing.F) {
	for _, r := range difficult(f) {
		line, _ := r.AppendJSON(nil)
		f.Add(append(line, '\n'))
		line, _ = r.AppendCSV(nil)
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		jsonFields(record, func(name, _ []byte) { unquote(name) })
		if fields, ok := csvFields(record); ok {
			require.NotEmpty(t, fields)
		}
	})
}

func TestKeyText(t *testing.T) {
	t.Parallel()
	for want, key := range map[string][]string{"a,b": {"a,b"}, `"a,b",c`: {"a,b", "c"}, `"a""",`: {`a"`, ""}, "1,2,3": {"1", "2", "3"}} {
		require.Equal(t, want, keyText(key))
		back, err := parseKey(want, len(key))
		require.NoError(t, err)
		require.Equal(t, key, back)
	}
	_, err := parseKey("1,2", 3)
	require.Error(t, err)
}
