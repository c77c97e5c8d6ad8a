package row_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// order returns a row of a table with a large column. body is nil for NULL.
func order(t testing.TB, id int, state string, body any) row.Row {
	r, err := row.Of(row.NewColumns([]string{"id", "state", "body"}, []row.Kind{row.Auto, row.Text, row.Text}), int64(id), state, body)
	require.NoError(t, err)
	return r
}

func key(r row.Row) row.Row { return row.Pick([]row.Row{r}, 0)[0] }

func changes(t testing.TB) map[string]row.Change {
	at := time.Date(2026, 1, 31, 23, 59, 59, 5e8, time.UTC)
	paid, open := order(t, 7, "paid", row.Unchanged{}), order(t, 7, "open", "old\"\n")
	return map[string]row.Change{
		`{"op":"update","table":"public.orders","key":{"id":7},"row":{"id":7,"state":"paid"},"old":{"id":7,"state":"open","body":"old\"\n"},"unchanged":["body"],"at":"2026-01-31T23:59:59.5Z","position":"0/16B3748","transaction":"771"}`: {
			Op: row.Update, Table: "public.orders", Key: key(paid), Row: paid, Old: open, At: at, Position: "0/16B3748", Transaction: "771"},
		`{"op":"insert","table":"orders","key":{"id":7},"row":{"id":7,"state":"open","body":"old\"\n"}}`: {
			Op: row.Insert, Table: "orders", Key: key(open), Row: open},
		`{"op":"upsert","row":{"id":1,"state":"","body":null}}`: {Op: row.Upsert, Row: order(t, 1, "", nil)},
		`{"op":"delete","table":"orders","key":{"id":7}}`:       {Op: row.Delete, Table: "orders", Key: key(open)},
		`{"op":"truncate","table":"orders"}`:                    {Op: row.Truncate, Table: "orders"},
	}
}

func TestChangeAsJSON(t *testing.T) {
	for want, c := range changes(t) {
		got, err := c.AppendJSON([]byte("x"))
		require.NoError(t, err)
		assert.Equal(t, "x"+want, string(got))

		var w bytes.Buffer
		require.NoError(t, c.WriteJSON(&w))
		assert.Equal(t, want, w.String())

		var back row.Change
		require.NoError(t, json.Unmarshal(got[1:], &back))
		again, err := json.Marshal(back)
		require.NoError(t, err)
		assert.Equal(t, want, string(again))
		assert.Equal(t, c.Op, back.Op)
		assert.Equal(t, c.Row.Len(), back.Row.Len(), "with the unchanged columns")
		assert.True(t, back.Equal(back))
	}
}

func TestChangeAsCSV(t *testing.T) {
	var all []byte
	for want, c := range changes(t) {
		all = c.AppendCSVHeader(nil)
		got, err := c.AppendCSV(all)
		require.NoError(t, err)
		records, err := csv.NewReader(bytes.NewReader(got)).ReadAll()
		require.NoError(t, err)
		require.Len(t, records, 2)
		var parts []string
		for i, name := range records[0] {
			switch value := records[1][i]; {
			case value == "":
			case strings.ContainsAny(value[:1], "{["):
				parts = append(parts, fmt.Sprintf("%q:%s", name, value))
			default:
				parts = append(parts, fmt.Sprintf("%q:%q", name, value))
			}
		}
		assert.Equal(t, want, "{"+strings.Join(parts, ",")+"}", "CSV has what JSON has")
	}
}

func TestALargeChangeIsWrittenInParts(t *testing.T) {
	big := order(t, 1, "open", strings.Repeat("\x01\"ä", 100_000))
	c := row.Change{Op: row.Update, Table: "orders", Key: key(big), Row: big, Old: big}
	assert.Equal(t, 2*big.Size()+1, c.Size())
	want, err := c.AppendJSON(nil)
	require.NoError(t, err)
	var w bytes.Buffer
	require.NoError(t, c.WriteJSON(&w))
	assert.Equal(t, len(want), w.Len())
	assert.True(t, bytes.Equal(want, w.Bytes()))

	line, err := c.AppendCSV(nil)
	require.NoError(t, err)
	fields, err := csv.NewReader(bytes.NewReader(line)).Read()
	require.NoError(t, err)
	body, err := big.AppendJSON(nil)
	require.NoError(t, err)
	assert.Equal(t, string(body), fields[3])
}

func TestAChangeThatIsNotValid(t *testing.T) {
	for _, op := range []row.Op{0, row.Truncate + 1} {
		c := row.Change{Op: op, Table: "orders"}
		_, err := c.AppendJSON(nil)
		assert.ErrorContains(t, err, op.String())
		assert.Error(t, c.WriteJSON(&bytes.Buffer{}))
		_, err = c.AppendCSV(nil)
		assert.Error(t, err)
	}
	for _, text := range []string{`[]`, `{"op":"merge"}`, `{"op":"insert","at":"yesterday"}`, `{"op":"delete","unchanged":["body"]}`, `{"op":"insert","row":[1]}`} {
		var c row.Change
		assert.ErrorContains(t, json.Unmarshal([]byte(text), &c), "row: ", text)
	}
}

func TestAnUnchangedColumn(t *testing.T) {
	r := order(t, 7, "paid", row.Unchanged{})
	assert.True(t, r.IsUnchanged(2))
	assert.False(t, r.IsNull(2), "unchanged is not NULL")
	assert.False(t, r.Equal(order(t, 7, "paid", nil)))
	assert.False(t, r.Equal(order(t, 7, "paid", "")))
	_, ok := r.Get("body")
	assert.False(t, ok)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Equal(t, `{"id":7,"state":"paid"}`, string(text))
	_, err = r.AppendCSV(nil)
	assert.ErrorContains(t, err, "unchanged", "an empty field would be NULL")
	assert.ErrorContains(t, r.WriteCSV(&bytes.Buffer{}), "unchanged")

	first, err := row.Of(row.NewColumns([]string{"body", "id"}, nil), row.Unchanged{}, int64(1))
	require.NoError(t, err)
	text, err = json.Marshal(first)
	require.NoError(t, err)
	assert.Equal(t, `{"id":1}`, string(text))
	var w bytes.Buffer
	require.NoError(t, first.WriteJSON(&w))
	assert.Equal(t, `{"id":1}`, w.String())
}

func TestPick(t *testing.T) {
	rows := []row.Row{order(t, 1, "open", nil), order(t, 2, "paid", row.Unchanged{})}
	picked := row.Pick(rows, 2, 0)
	require.Len(t, picked, 2)
	assert.Equal(t, "body", picked[0].Columns().Name(0))
	assert.Equal(t, row.Text, picked[0].Columns().Kind(0))
	assert.True(t, picked[0].IsNull(0))
	assert.True(t, picked[1].IsUnchanged(0))
	assert.Equal(t, "2", picked[1].Text(1))
	assert.Nil(t, row.Pick(nil, 0))
}

func TestAChangeHidesItsValues(t *testing.T) {
	r := order(t, 7, "secret", nil)
	c := row.Change{Op: row.Insert, Table: "orders", Key: key(r), Row: r}
	assert.Equal(t, "insert of orders", fmt.Sprint(c))
	assert.Equal(t, "insert of orders", c.LogValue().String())
}
