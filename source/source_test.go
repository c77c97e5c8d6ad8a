package source_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/source"
)

func TestCursorValidate(t *testing.T) {
	for _, c := range []source.Cursor{"", "1", " ~", source.Cursor(strings.Repeat("x", source.MaxCursor))} {
		assert.NoError(t, c.Validate())
	}
	assert.EqualError(t, source.Cursor("a\nb").Validate(), "source: byte 1 of the cursor is 0xa, which is not printable ASCII")
	assert.EqualError(t, source.Cursor("é").Validate(), "source: byte 0 of the cursor is 0xc3, which is not printable ASCII")
	assert.ErrorContains(t, source.Cursor(strings.Repeat("x", source.MaxCursor+1)).Validate(), "the cursor has 8193 bytes, the limit is 8192")
}

// A source is read by following To.
func ExampleSource() {
	letters := "abcdefg"
	var src source.Source[string] = source.Func[string](
		func(_ context.Context, after source.Cursor, limit int) (source.Batch[string], error) {
			from := strings.Index(letters, string(after)) + len(after)
			to := min(from+limit, len(letters))
			b := source.Batch[string]{From: after, To: after, More: to < len(letters)}
			for _, l := range letters[from:to] {
				b.Records = append(b.Records, string(l))
				b.To = source.Cursor(l)
			}
			return b, nil
		})

	var cursor source.Cursor
	for more := true; more; {
		b, err := src.Fetch(context.Background(), cursor, 3)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("after %q: %v\n", b.From, b.Records)
		cursor, more = b.To, b.More
	}
	// Output:
	// after "": [a b c]
	// after "c": [d e f]
	// after "f": [g]
}

// A message shows the begin of a long cursor, and its end after a semicolon.
func TestShortCursor(t *testing.T) {
	t.Parallel()
	for c, want := range map[source.Cursor]string{
		"":                                     "",
		source.Cursor(strings.Repeat("x", 80)): strings.Repeat("x", 80),
		source.Cursor(strings.Repeat("x", 81)): strings.Repeat("x", 16) + "..." + strings.Repeat("x", 48),
		"2;4c9ea7a9;" + source.Cursor(strings.Repeat("history,", 20)) + ";i5;3f8ab124": "2;4c9ea7a9;histo...;i5;3f8ab124",
	} {
		assert.Equal(t, want, c.Short())
		assert.Equal(t, want, slog.AnyValue(c).Resolve().String())
	}
}
