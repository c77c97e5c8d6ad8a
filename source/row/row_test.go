package row_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// of returns a row with one column named c.
func of(t testing.TB, kind row.Kind, value any) row.Row {
	t.Helper()
	r, err := row.Of(row.NewColumns([]string{"c"}, []row.Kind{kind}), value)
	require.NoError(t, err)
	return r
}

func appendJSON(t testing.TB, r row.Row) string {
	t.Helper()
	b, err := r.AppendJSON(nil)
	require.NoError(t, err)
	return string(b)
}

func appendCSV(t testing.TB, r row.Row) string {
	t.Helper()
	b, err := r.AppendCSV(nil)
	require.NoError(t, err)
	return string(b)
}

func TestTextOfEveryValue(t *testing.T) {
	t.Parallel()
	utc := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		return v
	}
	paris := time.FixedZone("", 2*3600)
	odd := time.FixedZone("", -(5*3600 + 30*60 + 7))
	digits := strings.Repeat("1234567890", 100)

	for _, c := range []struct {
		kind  row.Kind
		value any
		text  string
		json  string // "" means the text as a JSON string
	}{
		{row.Auto, nil, "", "null"},
		{row.JSONB, nil, "", "null"},
		{row.Auto, []byte(nil), "", ""},
		{row.Text, []byte(nil), "", ""},

		{row.Auto, int64(math.MinInt64), "-9223372036854775808", "-9223372036854775808"},
		{row.Auto, uint64(math.MaxUint64), "18446744073709551615", "18446744073709551615"},
		{row.Auto, int32(-7), "-7", "-7"},
		{row.Auto, uint8(7), "7", "7"},
		{row.Auto, true, "true", "true"},
		{row.Auto, false, "false", "false"},
		{row.Text, int64(5), "5", "5"},
		{row.Text, true, "true", "true"},

		{row.Auto, 0.1, "0.1", "0.1"},
		{row.Auto, math.Copysign(0, -1), "-0", "-0"},
		{row.Auto, math.MaxFloat64, "1.7976931348623157e+308", "1.7976931348623157e+308"},
		{row.Auto, math.SmallestNonzeroFloat64, "5e-324", "5e-324"},
		{row.Auto, 1e20, "100000000000000000000", "100000000000000000000"},
		{row.Auto, math.NaN(), "NaN", ""},
		{row.Auto, math.Inf(1), "Infinity", ""},
		{row.Float32, math.Inf(-1), "-Infinity", ""},
		{row.Float32, float64(float32(0.1)), "0.1", "0.1"},
		{row.Float32, float64(math.MaxFloat32), "3.4028235e+38", "3.4028235e+38"},
		{row.Float32, []byte("0.10000000149011612"), "0.1", "0.1"},
		{row.Float32, []byte("none"), "none", ""},
		{row.Auto, float32(0.1), "0.1", "0.1"},
		{row.Auto, float64(float32(0.1)), "0.10000000149011612", "0.10000000149011612"},

		{row.Number, []byte("-" + digits + "." + digits), "-" + digits + "." + digits, "-" + digits + "." + digits},
		{row.Number, "12.50", "12.50", "12.50"},
		{row.Number, "NaN", "NaN", ""},
		{row.Number, "-Infinity", "-Infinity", ""},
		{row.Number, "00042", "42", "42"},
		{row.Number, "-000.50", "-0.50", "-0.50"},
		{row.Number, "0", "0", "0"},
		{row.Number, "1E+5", "1E+5", "1E+5"},
		{row.Number, "007up", "007up", ""},
		{row.Number, "1.", "1.", ""},
		{row.Number, "1e", "1e", ""},
		{row.Number, "1e5x", "1e5x", ""},
		{row.Number, "--1", "--1", ""},
		{row.Number, "", "", ""},
		{row.Number, int64(3), "3", "3"},
		{row.Number, big.NewInt(77), "77", "77"},
		{row.Auto, big.NewInt(77), "77", ""},

		{row.Auto, "padded  ", "padded  ", ""},
		{row.Auto, "", "", ""},
		{row.Text, []byte{}, "", ""},
		{row.Text, []byte("o'clock"), "o'clock", ""},
		{row.Auto, "a\"b\\c\nd\re\tf\x00g\x1fh\x7f", "a\"b\\c\nd\re\tf\x00g\x1fh\x7f",
			`"a\"b\\c\nd\re\tf\u0000g\u001fh` + "\x7f\""},
		{row.Auto, "a/b<c>&\u2028😀é", "a/b<c>&\u2028😀é", "\"a/b<c>&\u2028😀é\""},
		{row.Auto, "\uFFFD is a character", "\uFFFD is a character", ""},
		{row.Text, []byte("caf\xe9"), "caf\xe9", `{"base64":"Y2Fm6Q=="}`},

		{row.Auto, []byte{0, 255, 254}, "AP/+", ""},
		{row.Auto, []byte{}, "", ""},
		{row.Bytes, "hi", "aGk=", ""},
		{row.Bit, []byte{0x16}, "22", "22"},
		{row.Bit, []byte{255, 255, 255, 255, 255, 255, 255, 255}, "18446744073709551615", "18446744073709551615"},
		{row.Bit, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, "AQIDBAUGBwgJ", ""},

		{row.JSON, "{ \"a\" :\n[1, \"x \\\" y\", 1e400 ],\t\"a\":2 }", `{"a":[1,"x \" y",1e400],"a":2}`,
			`{"a":[1,"x \" y",1e400],"a":2}`},
		{row.JSON, `"\\" `, `"\\"`, `"\\"`},
		{row.JSON, "{broken\n", "{broken\n", ""},
		{row.JSON, "\"\xff\"", "\"\xff\"", `{"base64":"Iv8i"}`},
		{row.JSON, "", "", ""},
		{row.JSON, "null", "null", "null"},
		{row.JSONB, []byte(`{"a": 1}`), `{"a": 1}`, `{"a": 1}`},
		{row.JSONB, "", "", ""},

		{row.Date, utc("2026-01-31T00:00:00Z"), "2026-01-31", ""},
		{row.Date, time.Date(-4712, 1, 1, 0, 0, 0, 0, time.UTC), "4713-01-01 BC", ""},
		{row.Date, time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC), "0001-12-31 BC", ""},
		{row.Date, time.Date(5874897, 12, 31, 0, 0, 0, 0, time.UTC), "5874897-12-31", ""},
		{row.Date, "infinity", "infinity", ""},
		{row.Date, []byte("0000-00-00"), "0000-00-00", ""},

		{row.Time, time.Date(0, 1, 1, 1, 2, 3, 450_000_000, time.UTC), "01:02:03.45", ""},
		{row.Time, time.Date(0, 1, 2, 0, 0, 0, 0, time.UTC), "24:00:00", ""},
		{row.Time, "24:00:00", "24:00:00", ""},
		{row.Time, []byte("-838:59:59.000000"), "-838:59:59", ""},
		{row.Time, "23:59:59.999990", "23:59:59.99999", ""},
		{row.TimeTZ, "23:59:59.5-02", "23:59:59.5-02:00", ""},
		{row.TimeTZ, "23:59:59+05:30", "23:59:59+05:30", ""},
		{row.TimeTZ, "x", "x", ""},
		{row.TimeTZ, time.Date(0, 1, 2, 0, 0, 0, 0, paris), "24:00:00+02:00", ""},
		{row.TimeTZ, time.Date(0, 1, 1, 8, 0, 0, 0, odd), "08:00:00-05:30:07", ""},

		{row.Timestamp, utc("2026-01-31T23:59:59.123456Z"), "2026-01-31T23:59:59.123456", ""},
		{row.Timestamp, time.Date(2026, 1, 31, 12, 0, 0, 0, paris), "2026-01-31T12:00:00", ""},
		{row.Timestamp, []byte("2026-01-31 12:00:00.120000"), "2026-01-31T12:00:00.12", ""},
		{row.Timestamp, "2026-01-31 12:00:00.000000", "2026-01-31T12:00:00", ""},
		{row.Timestamp, "0000-00-00 00:00:00", "0000-00-00T00:00:00", ""},
		{row.Timestamp, "4713-01-01 00:00:00 BC", "4713-01-01T00:00:00 BC", ""},
		{row.Timestamp, "-infinity", "-infinity", ""},
		{row.TimestampTZ, "infinity", "infinity", ""},
		{row.TimestampTZ, time.Date(2026, 1, 31, 12, 0, 0, 1, paris), "2026-01-31T10:00:00.000000001Z", ""},
		{row.TimestampTZ, time.Date(-43, 3, 15, 12, 0, 0, 0, time.UTC), "0044-03-15T12:00:00Z BC", ""},
		{row.Auto, time.Date(2026, 1, 31, 12, 0, 0, 1, paris), "2026-01-31T12:00:00.000000001+02:00", ""},
		{row.Text, time.Date(0, 1, 31, 12, 0, 0, 0, time.UTC), "0000-01-31T12:00:00Z", ""},
		{row.Auto, time.Date(294276, 12, 31, 23, 59, 59, 999999000, time.UTC), "294276-12-31T23:59:59.999999Z", ""},
	} {
		t.Run(fmt.Sprintf("%v %T %.40v", c.kind, c.value, c.value), func(t *testing.T) {
			r := of(t, c.kind, c.value)
			assert.Equal(t, c.text, r.Text(0))
			if c.json == "" {
				quoted, err := json.Marshal(c.text)
				require.NoError(t, err)
				c.json = string(quoted)
			}
			assert.Equal(t, `{"c":`+c.json+`}`, appendJSON(t, r))
			assert.Equal(t, c.json == "null" && c.text == "", r.IsNull(0))
		})
	}
}

// Every byte, and a character of two bytes, is tested at every position of the
// words that countPlain reads.
func TestEveryByteAtEveryPlace(t *testing.T) {
	t.Parallel()
	for c := range 257 {
		char := string([]byte{byte(c)})
		if c == 256 {
			char = "é"
		}
		for place := range 20 {
			want := strings.Repeat("x", place) + char + strings.Repeat("x", 19-place)
			var got struct{ C any }
			require.NoError(t, json.Unmarshal([]byte(appendJSON(t, of(t, row.Text, want))), &got))
			if utf8.ValidString(want) {
				require.Equal(t, want, got.C)
			} else {
				require.Equal(t, map[string]any{"base64": base64.StdEncoding.EncodeToString([]byte(want))}, got.C)
			}
		}
	}
}

func TestUnknownTypeIsAnErrorThatNamesTheColumn(t *testing.T) {
	t.Parallel()
	_, err := row.Of(row.NewColumns([]string{"id", "shape"}, nil), int64(1), struct{ Secret string }{"hush"})
	require.ErrorContains(t, err, `row: column "shape"`)
	require.ErrorContains(t, err, "struct")
	require.NotContains(t, err.Error(), "hush")

	_, err = row.Of(row.NewColumns([]string{"id"}, nil), int64(1), int64(2))
	require.EqualError(t, err, "row: 2 values for 1 columns")
}

func TestColumns(t *testing.T) {
	t.Parallel()
	c := row.NewColumns([]string{"id", "id", "id_2", "a\"b", "\xff", "\xfe", ""}, []row.Kind{row.Number})
	assert.Equal(t, 7, c.Len())
	var names []string
	for i := range c.Len() {
		names = append(names, c.Name(i))
	}
	assert.Equal(t, []string{"id", "id_2", "id_2_2", "a\"b", "\uFFFD", "\uFFFD_2", ""}, names)
	assert.Equal(t, row.Number, c.Kind(0))
	assert.Equal(t, row.Auto, c.Kind(6))
	assert.Equal(t, 3, c.Index("a\"b"))
	assert.Equal(t, -1, c.Index("none"))

	r, err := row.Of(c, 1, 2, 3, 4, 5, 6, 7)
	require.NoError(t, err)
	assert.Equal(t, `{"id":1,"id_2":2,"id_2_2":3,"a\"b":4,"`+"\uFFFD"+`":5,"`+"\uFFFD"+`_2":6,"":7}`, appendJSON(t, r))
	assert.Equal(t, "id,id_2,id_2_2,\"a\"\"b\",\uFFFD,\uFFFD_2,\"\"\r\n", string(r.AppendCSVHeader(nil)))

	assert.Panics(t, func() { row.NewColumns(nil, []row.Kind{row.Text}) })

	one := row.NewColumns([]string{"a"}, nil)
	assert.True(t, one.Equal(row.NewColumns([]string{"a"}, []row.Kind{row.Auto})))
	assert.False(t, one.Equal(row.NewColumns([]string{"a"}, []row.Kind{row.Text})))
	assert.False(t, one.Equal(row.NewColumns([]string{"b"}, nil)))
	assert.False(t, one.Equal(row.NewColumns([]string{"a", "b"}, nil)))
	assert.False(t, one.Equal(nil))
}

func TestRowAccess(t *testing.T) {
	t.Parallel()
	c := row.NewColumns([]string{"a", "b"}, nil)
	r, err := row.Of(c, "x", nil)
	require.NoError(t, err)
	assert.Same(t, c, r.Columns())
	assert.Equal(t, 2, r.Len())
	v, ok := r.Get("a")
	assert.True(t, ok)
	assert.Equal(t, "x", v)
	for _, name := range []string{"b", "none"} {
		v, ok = r.Get(name)
		assert.False(t, ok)
		assert.Empty(t, v)
	}
	assert.Panics(t, func() { r.Text(2) })
	assert.Panics(t, func() { r.IsNull(-1) })

	s, err := row.Of(row.NewColumns([]string{"a", "b"}, nil), "x", nil)
	require.NoError(t, err)
	assert.True(t, r.Equal(s))
	s, err = row.Of(c, "x", "")
	require.NoError(t, err)
	assert.False(t, r.Equal(s), "NULL is not the empty string")
	assert.False(t, of(t, row.Auto, "1").Equal(of(t, row.Auto, 1)), "text is not a number")
	assert.False(t, r.Equal(row.Row{}))

	b, err := json.Marshal([]row.Row{r, s})
	require.NoError(t, err)
	assert.JSONEq(t, `[{"a":"x","b":null},{"a":"x","b":""}]`, string(b))
}

func TestZeroRow(t *testing.T) {
	t.Parallel()
	var r row.Row
	assert.Nil(t, r.Columns())
	assert.Zero(t, r.Len())
	assert.True(t, r.Equal(row.Row{}))
	_, ok := r.Get("a")
	assert.False(t, ok)
	for _, f := range []func([]byte) ([]byte, error){r.AppendJSON, r.AppendCSV} {
		b, err := f([]byte("kept"))
		assert.EqualError(t, err, "row: the zero Row cannot be written")
		assert.Equal(t, "kept", string(b))
	}
	assert.Equal(t, "kept", string(r.AppendCSVHeader([]byte("kept"))))
}

func TestNoColumns(t *testing.T) {
	t.Parallel()
	r, err := row.Of(row.NewColumns(nil, nil))
	require.NoError(t, err)
	assert.Equal(t, "{}", appendJSON(t, r))
	assert.Equal(t, "\r\n", appendCSV(t, r))
}

func TestLogsShowNoValues(t *testing.T) {
	t.Parallel()
	r := of(t, row.Auto, "hush")
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "r", r)
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "r", r)
	fmt.Fprintf(&b, "%v %+v %s %q", r, r, r, r)
	assert.NotContains(t, b.String(), "hush")
	assert.Contains(t, b.String(), `row of columns [\"c\"]`)
}

func TestCSV(t *testing.T) {
	t.Parallel()
	c := row.NewColumns([]string{"a", "b", "c", "d", "e", "f", "g"}, nil)
	r, err := row.Of(c, nil, "", "x,y", "say \"hi\"", "two\r\nlines", " padded", `\.`)
	require.NoError(t, err)
	assert.Equal(t, ",\"\",\"x,y\",\"say \"\"hi\"\"\",\"two\r\nlines\",\" padded\",\"\\.\"\r\n", appendCSV(t, r))
	assert.Equal(t, "\r\n", appendCSV(t, of(t, row.Auto, nil)))
	for _, s := range []string{"a\rb", "a\nb", "a,b"} {
		assert.Equal(t, "\""+s+"\"\r\n", appendCSV(t, of(t, row.Auto, s)))
	}
	assert.Equal(t, "caf\xe9\r\n", appendCSV(t, of(t, row.Text, []byte("caf\xe9"))), "as it is")
}

func TestKindString(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "Auto", row.Auto.String())
	assert.Equal(t, "TimestampTZ", row.TimestampTZ.String())
	assert.Equal(t, "Kind(200)", row.Kind(200).String())
}

func TestTypes(t *testing.T) {
	c := row.NewColumns([]string{"id", "v"}, nil, row.Type{Name: "bigint", Class: row.Integer, Bits: 64, NotNull: true})
	assert.Equal(t, 64, c.Type(0).Bits)
	assert.Equal(t, row.Type{}, c.Type(1))
	assert.True(t, c.Equal(row.NewColumns([]string{"id", "v"}, nil)), "rows with equal columns are written the same way")
	assert.Panics(t, func() { row.NewColumns([]string{"id"}, nil, row.Type{}, row.Type{}) })
	assert.Equal(t, "Integer, Unknown, Array, Class(99)", fmt.Sprintf("%v, %v, %v, %v", row.Integer, row.Unknown, row.Array, row.Class(99)))
}
