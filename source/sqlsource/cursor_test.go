package sqlsource

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

func FuzzCursorRoundTrip(f *testing.F) {
	f.Add("a", "", int64(0), uint64(0))
	f.Add("table", "a;b%41\x00\xff€", int64(-1<<63), uint64(1<<64-1))
	f.Add("a", strings.Repeat("\x80", 700), int64(-61), uint64(48))
	f.Fuzz(func(t *testing.T, query, text string, n int64, mark uint64) {
		integer, err := keyValue(n)
		require.NoError(t, err)
		bytes, err := keyValue([]byte(text))
		require.NoError(t, err)
		key := []dialect.Value{{Tag: dialect.Text, Text: text}, integer, bytes}
		print := fingerprint(query)
		made := origin{values: []string{"7301234567890123456", "1", text, ""}, mark: mark, table: print, marks: []string{"", "0a"}, columns: layout{uint32(mark), 7},
			anchors: []anchor{{7, digest{uint32(n), uint32(mark)}, key}, {int(mark % maxBack), digest{0, 0}, key}}}
		c, err := encode(print, made, key)
		if err != nil {
			require.Equal(t, retry.Fatal, retry.Classify(err))
			return
		}
		require.NoError(t, c.Validate())
		got, history, err := decode(c, print, 3)
		require.NoError(t, err)
		require.Equal(t, key, got)
		if n := len(history.anchors); n < len(made.anchors) { // a cursor leaves out the oldest that it has no room for
			room := source.MaxCursor - len(c) - len("!")
			require.Greater(t, len(escape(nil, string(appendAnchors(nil, made.anchors[n:n+1])))), room)
			made.anchors = append([]anchor(nil), made.anchors[:n]...)
		}
		require.Equal(t, made, history)
		_, _, err = decode(c, fingerprint(query+"x"), 3)
		require.ErrorContains(t, err, "another query")
		_, _, err = decode(c, print, 2)
		require.ErrorContains(t, err, "damaged")
	})
}

func TestCursorOfANewerVersion(t *testing.T) {
	t.Parallel()
	for c, want := range map[source.Cursor]string{
		"4;0123abcd;anything;at all": "is of version 4, and this program knows 2 and 3: run the release that wrote it, or a later one; or rewind",
		"1;0123abcd;i42;e1b3ff1f":    "is of version 1",
		"4711":                       "is of version 4711",
		"row 7":                      "was not made by this package",
		"-3;":                        "was not made by this package",
	} {
		_, _, err := decode(c, "", 1)
		require.ErrorContains(t, err, want)
		require.Equal(t, retry.Fatal, retry.Classify(err))
	}
}

// What decode takes it would have written itself.
func FuzzCursorDecode(f *testing.F) {
	print := fingerprint("t")
	for _, key := range [][]dialect.Value{nil, {{Tag: dialect.Int, Text: "42"}}, {{Tag: dialect.Text, Text: "a b;"}}, {{Tag: dialect.Bytes, Text: "00ff"}}, {{Tag: dialect.Time, Text: "2026-01-31T00:00:00Z"}}, {{Tag: dialect.Float, Text: "1e+300"}}} {
		c, err := encode(print, origin{}, key)
		require.NoError(f, err)
		f.Add(string(c))
	}
	for _, s := range []string{"", "1", "1;;", "2;" + print + ";i42;00000000", "latest"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for columns := range 3 {
			key, made, err := decode(source.Cursor(s), print, columns)
			if err != nil {
				require.Equal(t, retry.Fatal, retry.Classify(err))
				continue
			}
			c, err := encode(print, made, key)
			require.NoError(t, err)
			require.Equal(t, s, string(c))
		}
	})
}

func TestCursorDamaged(t *testing.T) {
	t.Parallel()
	print := fingerprint("t")
	good, err := encode(print, origin{}, []dialect.Value{{Tag: dialect.Int, Text: "42"}, {Tag: dialect.Text, Text: "x;y"}})
	require.NoError(t, err)
	for i := range good {
		for _, c := range []byte("0;~ \x7f\n") {
			bad := string(good[:i]) + string(c) + string(good[i+1:])
			if bad == string(good) {
				continue
			}
			_, _, err := decode(source.Cursor(bad), print, 2)
			require.Error(t, err, bad)
			require.Equal(t, retry.Fatal, retry.Classify(err))
			require.ErrorContains(t, err, "rewind to a cursor of this query")
		}
		_, _, err := decode(good[:i], print, 2)
		require.Error(t, err)
	}
	_, err = encode(print, origin{}, []dialect.Value{{Tag: dialect.Text, Text: strings.Repeat("x", source.MaxCursor)}})
	require.ErrorContains(t, err, "choose a shorter key")
}

// A value that no encoder writes is refused even under a right checksum.
func TestCursorValues(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "i", "i4x", "i18446744073709551616", "fx", "bz", "b0", "t2026", "x1", "s%4", "s%zz", "s%41"} {
		_, err := parseValue(bad)
		require.Error(t, err, bad)
	}
	for _, good := range []string{"i-9223372036854775808", "i18446744073709551615", "f+Inf", "b", "bff", "s", "s%3B%25%00", "gabc"} {
		v, err := parseValue(good)
		require.NoError(t, err, good)
		require.Equal(t, good, string(escape([]byte{v.Tag}, v.Text)))
	}
}

type orderID int64

func (orderID) String() string { return "order" }

// An integer is one also where it prints as something else, and what prints
// itself is taken by its text.
func TestKeyValue(t *testing.T) {
	t.Parallel()
	for want, x := range map[string]any{
		"i7": orderID(7), "i1000000000": time.Second, "g18446744073709551616": new(big.Int).Lsh(big.NewInt(1), 64),
		"t9999-12-31T00:00:00Z": time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), "f0.1": float32(0.1),
	} {
		v, err := keyValue(x)
		require.NoError(t, err)
		require.Equal(t, want, string(v.Tag)+v.Text)
	}
	for _, x := range []any{nil, true, struct{}{}, time.Time{}.AddDate(-1, 0, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		_, err := keyValue(x)
		require.Error(t, err, "%T", x)
	}
}

// A history that is not as it is written is refused, even under a right checksum.
func TestHistories(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "1/2@7", "a+b@7", "1/*abcd,.0a,@7", "1/*abcd,,AAAAAQAAAAI,7:AAAAAAAAAAE:i5@7", "db~1.a~2b/*abcd,,,0::sa~3b~4@7"} {
		o, err := parseOrigin(good)
		require.NoError(t, err)
		require.Equal(t, good, o.String())
	}
	o, err := parseOrigin("1/*abcd,,,0::i5/*abcd,,/+cdef,0a,@7") // an older release has added its own evidence, again and again
	require.NoError(t, err)
	require.Equal(t, origin{values: []string{"1"}, table: "cdef", marks: []string{"0a"}, mark: 7}, o)
	for _, bad := range []string{"1/2", "1/2@", "1/2@07", "1/2@-7", "1/2@7+3", "1/2@x", "@0", "!@1", "+@1", "*@1", "*a,@1", "*a,,A@1", "*a,,AA@1", "*a,,AAAAAQA@1", "*a,,,1:i5@1", "*a,,,1::ix@1", "*a,,,1::x5@1", "*a,,,1::s/@1"} {
		_, err := parseOrigin(bad)
		require.Error(t, err, bad)
	}
}

// A long key is worth more than the anchors: a cursor holds as many of them as it has room for.
func TestLongKeyNeedsTheRoomOfAnchors(t *testing.T) {
	t.Parallel()
	short := []dialect.Value{{Tag: dialect.Text, Text: strings.Repeat("é", maxAnchorKey/2)}}
	made := origin{table: "0123abcd", columns: make(layout, maxColumns)}
	for range levels {
		made.anchors = append(made.anchors, anchor{row: make(digest, maxColumns), key: short})
	}
	c, err := encode("0123abcd", made, short)
	require.NoError(t, err)
	_, read, err := decode(c, "0123abcd", 1)
	require.NoError(t, err)
	require.Equal(t, made.anchors, read.anchors)

	long := []dialect.Value{{Tag: dialect.Text, Text: strings.Repeat("k", source.MaxCursor-3000)}}
	c, err = encode("0123abcd", made, long)
	require.NoError(t, err)
	key, read, err := decode(c, "0123abcd", 1)
	require.NoError(t, err)
	require.Equal(t, long, key)
	require.Equal(t, made.anchors[:len(read.anchors)], read.anchors)
	require.NotEmpty(t, read.anchors)
	require.Less(t, len(read.anchors), levels)

	made.refused, made.anchors = strings.Repeat("why ", 100), nil // a reason is shortened, too
	long = []dialect.Value{{Tag: dialect.Text, Text: strings.Repeat("k", source.MaxCursor-500)}}
	c, err = encode("0123abcd", made, long)
	require.NoError(t, err)
	_, read, err = decode(c, "0123abcd", 1)
	require.NoError(t, err)
	require.Len(t, string(c), source.MaxCursor)
	require.True(t, strings.HasPrefix(made.refused, read.refused))
}

// An anchor whose key has another number of values than the cursor's is damage, and not a panic.
func TestCursorWithACutAnchor(t *testing.T) {
	t.Parallel()
	key := append(intKey(1), intKey(2)...)
	c, err := encode("0123abcd", origin{table: "0123abcd", anchors: []anchor{{0, nil, key}, {1, nil, key[:1]}}}, key)
	require.NoError(t, err)
	_, _, err = decode(c, "0123abcd", 2)
	require.ErrorContains(t, err, "damaged")
}

func TestPosition(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b"}
	for want, key := range map[string][]dialect.Value{
		"a 42, b x":                       {{Tag: dialect.Int, Text: "42"}, {Tag: dialect.Text, Text: "x"}},
		"a 2026-01-31 12:00:00, b 0x00ff": {{Tag: dialect.Text, Text: "2026-01-31 12:00:00"}, {Tag: dialect.Bytes, Text: "00ff"}},
		`a "x, y", b ""`:                  {{Tag: dialect.Text, Text: "x, y"}, {Tag: dialect.Text, Text: ""}},
		`a "\u00e9", b "\""`:              {{Tag: dialect.Text, Text: "é"}, {Tag: dialect.Given, Text: `"`}},
	} {
		c, err := encode("0123abcd", origin{}, key)
		require.NoError(t, err)
		require.Equal(t, want, positionText(names, c))
	}
	for _, c := range []source.Cursor{"", Latest, "x"} {
		require.Empty(t, positionText(names, c))
	}
}
