package ceiling

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

type fakeSQL struct{}

func (fakeSQL) Name() string                                    { return "Fake" }
func (fakeSQL) TimeLayout(typ string) (layout string, utc bool) { return "", false }
func (fakeSQL) Transactions(context.Context, Queryer, Table, *Report) (Transactions, error) {
	return Unlisted(""), nil
}

// An UnsafeError has every reason, its remedies, and each statement on a separate line.
func TestUnsafeError(t *testing.T) {
	t.Parallel()
	r := Report{Strategy: "x"}
	r.Add(OK, nil, "an index begins with the key")
	require.NoError(t, r.Err(Table{Label: "orders"}))
	r.Add(Unsafe, append(Advice("do this", "ALTER A;", "ALTER B;"), Remedy{Words: "do that"}), "the %s is wrong", "cache")
	r.Add(Unsafe, nil, "so is the rest")
	require.EqualError(t, r.Err(Table{Label: "orders"}), `ceiling: orders: rows would be missed with the ceiling x
- the cache is wrong
  to fix it: do this
      ALTER A;
      ALTER B;
  or: do that
- so is the rest`)
	require.True(t, r.Lossy)
}

func TestOtherMeans(t *testing.T) {
	t.Parallel()
	list := OtherMeans(Table{Label: "public.orders"})
	require.Contains(t, list[0].Words, "dbtofile -check -table public.orders prints")
	for _, r := range list {
		require.Nil(t, r.Statements, "only the change table has some, and another package prints them")
	}
}

// A ceiling of one database refuses another, and a Query that names no table.
func TestRequire(t *testing.T) {
	t.Parallel()
	for database, table := range map[string]Table{"Other": {SQL: fakeSQL{}, Name: "t"}, "Fake": {SQL: fakeSQL{}}} {
		var r Report
		var unsafe *UnsafeError
		require.ErrorAs(t, r.Require(table, database), &unsafe)
		require.NotEmpty(t, unsafe.Report.Findings[0].Remedies)
	}
	var r Report
	require.NoError(t, r.Require(Table{SQL: fakeSQL{}, Name: "t"}, "Fake"))
}

func TestFormatAge(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{-1: "0.0s", 0.34: "0.3s", 9.96: "10.0s", 12.3: "12s", 310: "5m10s"} {
		require.Equal(t, want, FormatAge(seconds))
	}
}

func TestAsLongAs(t *testing.T) {
	t.Parallel()
	require.Empty(t, AsLongAs(nil, "leave", "it alone"))
	require.Equal(t, ", as long as the trigger a leaves it alone", AsLongAs([]string{"a"}, "leave", "it alone"))
	require.Equal(t, ", as long as the triggers a, b and c set it", AsLongAs([]string{"a", "b", "c"}, "set", "it"))
}
