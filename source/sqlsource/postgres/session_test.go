package postgres

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Arguments take the place of placeholders, and of nothing that only looks like one.
func TestInline(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		`a > $1 AND b = $2::bigint`:                    `a > E'it''s \\' AND b = E'-5'::bigint`,
		`($1,$2,$10)`:                                  `(E'it''s \\',E'-5',$10)`,
		`'$1' "$1" a$1 x_$1 $$ $1 $$ $q$ $1 $$ $q$ $1`: `'$1' "$1" a$1 x_$1 $$ $1 $$ $q$ $1 $$ $q$ E'it''s \\'`,
		"-- $1 '\n$2":                                  "-- $1 '\nE'-5'",
		`/* $1 /* ' */ $1 */ $2`:                       `/* $1 /* ' */ $1 */ E'-5'`,
		`e'\'$1' || E'\\' || $2`:                       `e'\'$1' || E'\\' || E'-5'`,
		`'\' || $2`:                                    `'\' || E'-5'`,
		`E'a''b\'c $1' || $2`:                          `E'a''b\'c $1' || E'-5'`,
		"E'a' \n'b\\'$1' || $2":                        "E'a' \n'b\\'$1' || E'-5'",
		`E'never ends \`:                               `E'never ends \`,
		`'a''$1' "b""$1" é$1 $2`:                       `'a''$1' "b""$1" é$1 E'-5'`,
		`'never ends $1`:                               `'never ends $1`,
		`$3 $4`:                                        `E'\\x00ff' NULL`,
		`case when $2 then 1 end$1`:                    `case when E'-5' then 1 end$1`,
		`x = $1/* $1 */-- $2`:                          `x = E'it''s \\'/* $1 */-- $2`,
	} {
		got, ok := inline(query, []any{`it's \`, int64(-5), []byte{0, 255}, nil}, false)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	got, ok := inline(`'\'$1' || $1`, []any{"a\x00b"}, true)
	require.True(t, ok)
	require.Equal(t, `'\'$1' || E'a\000b'`, got)
	_, ok = inline(`$1`, []any{struct{}{}}, false)
	require.False(t, ok)
}

func FuzzQuoted(f *testing.F) {
	for _, text := range []string{`'a'`, `e'\'`, `$x$ $y$`, `/* /* */`, "--", "\xff'", `"`} {
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, escapes bool) {
		n := quoted(text, escapes)
		require.True(t, 0 <= n && n <= len(text))
		got, ok := inline(text, []any{1}, escapes)
		require.True(t, ok)
		if !strings.Contains(text, "$1") && !strings.Contains(text, "$0") {
			require.Equal(t, text, got)
		}
	})
}
