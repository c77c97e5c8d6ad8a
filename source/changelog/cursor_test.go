package changelog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
)

func TestCursor(t *testing.T) {
	t.Parallel()
	for _, p := range []position{{}, {loading: true, inner: "2;ab;;i7;00"}, {marks: marksOf("12 13"), safe: 41, inner: "x;y;z"}} {
		c := p.encode("public.orders")
		require.NoError(t, c.Validate())
		got, err := decode(c, "public.orders")
		require.NoError(t, err)
		require.Equal(t, p, got)
		_, err = decode(c, "public.others")
		require.ErrorContains(t, err, "another table")
	}
	good := position{safe: 1}.encode("t")
	for _, c := range []source.Cursor{"~", "\x00", "c;;;", "x" + good[1:], "c12345678;;x;", good[:10] + ";+1;", good[:9] + ";;01;"} {
		_, err := decode(c, "t")
		require.Error(t, err, "%q", c)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := &store{limit: 20}
	require.Equal(t, "new_a", s.new(column{name: "a"}))
	long := s.old(column{name: "a_column_with_a_long_name"})
	require.Len(t, long, 20)
	require.NotEqual(t, long, s.old(column{name: "a_column_with_a_long_name2"}))
	require.LessOrEqual(t, len(s.new(column{name: "éééééééééééééééé"})), 20)
	for _, bad := range []string{"", "a.b.c", `"a`, "a.", `""`} {
		_, err := splitName(bad)
		require.Error(t, err, bad)
	}
	parts, err := splitName(`"a.b"."c""d"`)
	require.NoError(t, err)
	require.Equal(t, []string{"a.b", `c"d`}, parts)
}
