package deadletter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

type record struct {
	N      int64  `json:"n"`
	Secret string `json:"-"`
	hidden int
	Any    any `json:"any,omitempty"`
	Time   time.Time
	List   []string `json:",omitempty"`
	Map    map[string]any
	Raw    json.RawMessage `json:",omitempty"`
	Big    *big.Int
	Addr   netip.Addr
	Next   *record
	F      func() `json:"-"`
}

// A record whose JSON does not restore it comes from its source again, and never with
// other values.
func TestValuesAreReplayedAsTheyWere(t *testing.T) {
	t.Parallel()
	one := func(r record) (deadletter.Letter, error) {
		b, letter, err := replayed(t, r, nil)
		if err == nil {
			assert.Equal(t, fmt.Sprint(r.N, r.Map, r.List), fmt.Sprint(b.N, b.Map, b.List))
			assert.True(t, r.Time.Equal(b.Time))
		}
		return letter, err
	}
	for i, r := range []record{
		{N: 9007199254740993},
		{Any: "text"}, {Any: int64(5)}, {Any: 1.5}, {Any: true}, {Any: []any{nil, "x"}},
		{Time: time.Now()}, {Time: time.Now().In(time.FixedZone("x", 3600))},
		{List: []string{}}, {List: []string{"a"}}, {Map: map[string]any{"a": "b"}}, {Map: map[string]any{}},
		{Raw: json.RawMessage(`{"a":1}`)}, {Big: big.NewInt(1 << 60)}, {Addr: netip.MustParseAddr("::1")},
		{Next: &record{N: 1}},
	} {
		letter, err := one(r)
		require.NoError(t, err, i)
		require.False(t, letter.Inexact, i)
	}
	for i, r := range []record{
		{Secret: "x"}, {hidden: 1}, {Any: int64(9007199254740993)}, {Any: []byte("bytes")}, {Any: time.Now()},
		{Any: map[string]int{"a": 1}}, {Map: map[string]any{"a": []byte("b")}}, {Next: &record{Secret: "x"}}, {F: func() {}},
	} {
		letter, err := one(r)
		require.ErrorContains(t, err, "its JSON does not have all of the record: set Source.Refetch", i)
		require.True(t, letter.Inexact, i)
		require.NotNil(t, letter.Record, i)
		b, _, err := replayed(t, r, source.Func[record](func(_ context.Context, after source.Cursor, _ int) (source.Batch[record], error) {
			return source.Batch[record]{From: after, To: "1", Records: []record{r}}, nil
		}))
		require.NoError(t, err, i)
		require.Equal(t, fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", b))
	}

	r, err := row.Of(row.NewColumns([]string{"id", "data"}, []row.Kind{row.Number, row.Bytes}), int64(9007199254740993), []byte("\xff"))
	require.NoError(t, err)
	b, letter, err := replayed(t, r, nil)
	require.NoError(t, err)
	require.False(t, letter.Inexact)
	require.Equal(t, "9007199254740993", b.Text(0))
	b2, _, err := replayed(t, any(int64(9007199254740993)), nil)
	require.Error(t, err, b2)
}

// replayed writes a rejected record and replays it.
func replayed[T any](t *testing.T, r T, refetch source.Source[T]) (record T, _ deadletter.Letter, _ error) {
	t.Helper()
	dir := t.TempDir()
	d, err := deadletter.Open[T](dir, deadletter.Options{})
	require.NoError(t, err)
	defer d.Close()
	rejected := poller.Rejected[T]{Record: r, To: "1", Err: "rejected: no"}
	require.NoError(t, d.Write(t.Context(), source.Batch[poller.Rejected[T]]{Records: []poller.Rejected[T]{rejected}}))
	b, err := (&deadletter.Source[T]{Dir: dir, Refetch: refetch}).Fetch(t.Context(), "", 5)
	if err != nil {
		return record, list(t, dir)[0], err
	}
	require.Len(t, b.Records, 1)
	return b.Records[0], list(t, dir)[0], nil
}
