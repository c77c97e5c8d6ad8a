package sqlsource

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

func TestSplitName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"orders": {"orders"}, "public.orders": {"public", "orders"}, `"a.b"`: {"a.b"}, `s."a""b"`: {"s", `a"b`},
		`"s.t".orders`: {"s.t", "orders"}, "a b;--": {"a b;--"}, `""""`: {`"`},
	} {
		got, err := dialect.SplitName(name)
		require.NoError(t, err, name)
		require.Equal(t, want, got)
	}
	for _, name := range []string{"", ".", "a.", ".a", `"`, `""`, `"a`, `"a"b`, `a"b`, `a"`, "a.b.c", "a\x00b", "\xff", `"a""`, `"a".`} {
		_, err := dialect.SplitName(name)
		require.Error(t, err, name)
	}
}

// However odd the name, what is quoted is one identifier: the quotes of the
// inside are all doubled.
func FuzzQuote(f *testing.F) {
	f.Add(`a"b`)
	f.Add("a`b;--")
	f.Fuzz(func(t *testing.T, name string) {
		for _, d := range []dialect.Dialect{postgres.Dialect{}, mysql.Dialect{}, sqlite.Dialect{}} {
			q := d.Quote(name)
			mark := q[0]
			require.Equal(t, mark, q[len(q)-1])
			var got []byte
			for inner := q[1 : len(q)-1]; inner != ""; inner = inner[1:] {
				if inner[0] == mark {
					require.Greater(t, len(inner), 1)
					require.Equal(t, mark, inner[1])
					inner = inner[1:]
				}
				got = append(got, inner[0])
			}
			require.Equal(t, name, string(got))
		}
		parts, err := dialect.SplitName(dialect.QuoteWith(`"`, name))
		if err == nil {
			require.Equal(t, []string{name}, parts)
		}
	})
}
