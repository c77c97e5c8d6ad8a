package sourcetest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

func ExampleFake() {
	var src sourcetest.Fake[string]
	src.Append("a", "b", "c")
	ctx := context.Background()

	b, err := src.Fetch(ctx, "", 2)
	fmt.Println(b.Records, b.To, b.More, err)

	src.FailNext(1, errors.New("connection reset"))
	_, err = src.Fetch(ctx, b.To, 2)
	fmt.Println(err)

	b, err = src.Fetch(ctx, b.To, 2)
	fmt.Println(b.Records, b.To, b.More, err)
	// Output:
	// [a b] 2 true <nil>
	// connection reset
	// [c] 3 false <nil>
}

// A few lines test your own source.
func ExampleTestSource() {
	letters := "abcdefghij"
	src := source.Func[string](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[string], error) {
		b := source.Batch[string]{From: after, To: after}
		at := len(after) // the cursor: all letters read so far
		if !strings.HasPrefix(letters, string(after)) {
			return b, fmt.Errorf("letters: not a cursor of this source: %q", after)
		}
		for i := at; i < min(at+limit, len(letters)); i++ {
			b.Records = append(b.Records, letters[i:i+1])
		}
		b.To = source.Cursor(letters[:at+len(b.Records)])
		return b, ctx.Err()
	})
	err := sourcetest.TestSource(context.Background(), sourcetest.Options[string]{
		Open:    func(context.Context) (source.Source[string], error) { return src, nil },
		AtLeast: 10,
	})
	fmt.Println(err)
	// Output: <nil>
}
