package sqlsource

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeyCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b  Key
		order int
		known bool
	}{
		{"i1;", "i1;", 0, true},
		{"i1;", "i2;", -1, true},
		{"i10;", "i9;", 1, true},
		{"i-10;", "i-9;", -1, true},
		{"i-1;", "i0;", -1, true},
		{"i18446744073709551615;", "i9223372036854775807;", 1, true},
		{"i1;i5;", "i1;i4;", 1, true},
		{"i1;sa;", "i2;sz;", -1, true},
		{"i1;sa;", "i1;sz;", 0, false},
		{"sa;i1;", "sa;i2;", -1, true},
		{"sa;i1;", "sb;i1;", 0, false},
		{"b00ff;", "b01;", -1, true},
		{"b00;", "b0000;", -1, true},
		{"i1;", "s1;", 0, false},
		{"s1.0;", "s1.0;", 0, true},
	} {
		order, known := c.a.Compare(c.b)
		require.Equal(t, c.known, known, "%s and %s", string(c.a), string(c.b))
		require.Equal(t, c.order, order, "%s and %s", string(c.a), string(c.b))
		order, known = c.b.Compare(c.a)
		require.Equal(t, c.known, known)
		require.Equal(t, -c.order, order)
	}
	require.True(t, Key("i1;b00;").Ordered())
	require.False(t, Key("i1;sx;").Ordered())
	require.Equal(t, `1, "a;b", 0x00ff`, Key("i1;sa%3Bb;b00ff;").String())
	values, err := Key("i-1;sa%3Bb;b00ff;f1.5;").Values()
	require.NoError(t, err)
	require.Equal(t, []any{int64(-1), "a;b", []byte{0, 255}, 1.5}, values)
	_, err = Key("x;").Values()
	require.ErrorContains(t, err, "a key is damaged")
}
