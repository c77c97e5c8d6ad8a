package sourcetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

type order struct {
	ID   int
	Name string
}

var orders = func() []order {
	var all []order
	for i := range 10 {
		all = append(all, order{i, fmt.Sprintf("order %d", i)})
	}
	return all
}()

func test(t *testing.T, src source.Source[order], change func(*sourcetest.Options[order])) error {
	t.Helper()
	o := sourcetest.Options[order]{
		Open:     func(context.Context) (source.Source[order], error) { return src, nil },
		Expected: orders,
	}
	if change != nil {
		change(&o)
	}
	return sourcetest.TestSource(t.Context(), o)
}

func TestFakePasses(t *testing.T) {
	t.Parallel()
	endless := &sourcetest.Fake[order]{}
	endless.Append(orders...)
	require.NoError(t, test(t, endless, nil))

	finite := &sourcetest.Fake[order]{}
	finite.Append(orders...)
	finite.End()
	require.NoError(t, test(t, finite, nil))

	// Many of its batches are empty, although To has moved.
	filtered := source.Func[order](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[order], error) {
		b, err := endless.Fetch(ctx, after, limit)
		b.Records = slices.DeleteFunc(b.Records, func(o order) bool { return o.ID%3 != 0 })
		return b, err
	})
	require.NoError(t, test(t, filtered, func(o *sourcetest.Options[order]) {
		o.Expected = []order{orders[0], orders[3], orders[6], orders[9]}
	}))

	require.NoError(t, test(t, endless, func(o *sourcetest.Options[order]) {
		o.Expected, o.AtLeast = nil, 10
	}))
	require.NoError(t, test(t, endless, func(o *sourcetest.Options[order]) {
		o.Expected, o.Start = orders[4:], endless.At(4)
	}))
}

func TestSourceWaitsForWhatIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var src sourcetest.Fake[order]
		src.Append(orders[:5]...)
		src.Hold(source.Held{By: []string{"pid 1"}, Retry: time.Second})
		src.Append(orders[5:]...)
		time.AfterFunc(5*time.Second, src.Release)
		require.NoError(t, test(t, &src, nil))

		src.Hold(source.Held{By: []string{"pid 1"}})
		src.Append(order{10, "held for ever"})
		require.ErrorContains(t, test(t, &src, nil), `nothing is held back during the test: after "10"`)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, sourcetest.TestSource(ctx, sourcetest.Options[order]{
			Open: func(context.Context) (source.Source[order], error) { return &src, nil },
		}), "the suite runs to its end: context deadline exceeded")
	})
}

// broken is a source that breaks the contract: change replaces the Fetch of a good
// one.
func broken(change func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error)) source.Source[order] {
	src := &sourcetest.Fake[order]{}
	src.Append(orders...)
	return source.Func[order](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[order], error) {
		if err := ctx.Err(); err != nil {
			return source.Batch[order]{}, err
		}
		return change(src, after, limit)
	})
}

func edit(change func(*source.Batch[order])) source.Source[order] {
	return broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
		b, err := src.Fetch(context.Background(), after, limit)
		if err == nil {
			change(&b)
		}
		return b, err
	})
}

func TestBrokenSourcesFail(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var arena []order
	var once sync.Once
	var goroutine context.Context
	calls := 0
	for name, c := range map[string]struct {
		src  source.Source[order]
		want string
	}{
		"skips at the limit": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if len(b.Records) == limit && limit == 3 && b.To != "10" {
				n, _ := strconv.Atoi(string(b.To))
				b.To = src.At(n + 1)
			}
			return b, err
		}), `sourcetest: every limit yields every record once, in the same order: with limit 3: record 3 is {"ID":4`},
		"reads one too many": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			return src.Fetch(ctx, after, limit+1)
		}), `a batch has at most limit records: Fetch after "", limit 1: 2 records (and `},
		"uses its memory again": {edit(func(b *source.Batch[order]) {
			arena = append(arena[:0], b.Records...)
			b.Records = arena
		}), `the source never touches a batch's memory again: record 0 was {"ID":0,"Name":"order 0"} and is {`},
		"hands out its own memory": {func() source.Source[order] {
			mine := slices.Clone(orders)
			return broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
				b, err := src.Fetch(ctx, after, limit)
				n, _ := strconv.Atoi(string(after))
				b.Records = mine[n : n+len(b.Records)]
				return b, err
			})
		}(), `sourcetest: the receiver may change a batch's records: Fetch after "": record 0 was {"ID":0,"Name":"order 0"}, and is zero since`},
		"does not move To": {edit(func(b *source.Batch[order]) { b.To = b.From }),
			`To differs from From if there are records: Fetch after "": 1 records and the same To`},
		"goes round": {edit(func(b *source.Batch[order]) {
			if b.To == "10" {
				b.To = "1"
			}
		}), `To moves on: after "9" came To "1" again`},
		"forgets From": {edit(func(b *source.Batch[order]) { b.From = "" }),
			`From is the cursor given: Fetch after "1": From is ""`},
		"ends with EOF": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if err == nil && len(b.Records) == 0 {
				err = io.EOF
			}
			return b, err
		}), `ErrEnd, never io.EOF, ends a source: Fetch after "10", after 10 records: EOF`},
		"ends with records": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if err == nil && b.To == "10" {
				err = source.ErrEnd
			}
			return b, err
		}), `ErrEnd comes with an empty batch: Fetch after "9": 1 records, To "10"`},
		"cannot be repeated": {func() source.Source[order] {
			at := 0 // its position, whatever the cursor
			return edit(func(b *source.Batch[order]) {
				if b.From == "" {
					at = 0
				}
				for i := range b.Records {
					b.Records[i] = orders[min(at, 9)]
					at++
				}
			})
		}(), `Fetch can be repeated: one cursor yields the same records again: after`},
		"has no order": {edit(func(b *source.Batch[order]) { slices.Reverse(b.Records) }),
			`every limit yields every record once, in the same order: with limit 2: record 0 is {"ID":1`},
		"delivers something else": {edit(func(b *source.Batch[order]) {
			for i := range b.Records {
				b.Records[i].Name = "x"
			}
		}), `the records are those expected: with limit 1: record 0 is {"ID":0,"Name":"x"}, want {"ID":0,"Name":"order 0"}`},
		"has unprintable cursors": {func() source.Source[order] {
			return broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
				if after != "" {
					after = after[:len(after)-1]
				}
				b, err := src.Fetch(ctx, after, limit)
				b.From += "\n"
				b.To += "\n"
				return b, err
			})
		}(), `a cursor is printable ASCII, 8 KiB at most: Fetch after ""`},
		"takes any cursor": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if err != nil {
				b, err = source.Batch[order]{From: after, To: after}, nil
			}
			return b, err
		}), `a cursor that the source did not make is an error: Fetch after "~ no cursor of any source ~": 0 records and no error`},
		"ends at a foreign cursor": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if err != nil {
				err = source.ErrEnd
			}
			return b, err
		}), `a cursor that the source did not make is neither ErrEnd nor io.EOF`},
		"promises more at the end": {edit(func(b *source.Batch[order]) { b.More = len(b.Records) > 0 }),
			`More says that the next Fetch has records: Fetch after "10" had none`},
		"claims too much": {edit(func(b *source.Batch[order]) { b.AsOf = time.Now().Add(time.Second) }),
			`every record committed before AsOf is at or before To: To "1" with AsOf`},
		"fails now and then": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			if calls++; calls == 20 {
				return source.Batch[order]{}, errors.New("connection reset")
			}
			return src.Fetch(ctx, after, limit)
		}), `Fetch succeeds while nothing is wrong: Fetch after`},
		"panics": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			if limit == 7 {
				panic("seven")
			}
			return src.Fetch(ctx, after, limit)
		}), `Fetch does not panic: Fetch after "": panic: seven`},
		"keeps the first context": {source.Func[order](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[order], error) {
			once.Do(func() { goroutine = ctx })
			if err := errors.Join(goroutine.Err(), ctx.Err()); err != nil {
				return source.Batch[order]{}, err
			}
			src := &sourcetest.Fake[order]{}
			src.Append(orders...)
			return src.Fetch(ctx, after, limit)
		}), `Fetch succeeds while nothing is wrong: Fetch after "1", after 1 records: context canceled`},
		"has negative sizes": {edit(func(b *source.Batch[order]) { b.Bytes = -1 }),
			`Bytes is not negative: Fetch after "": -1`},
		"holds for no time": {edit(func(b *source.Batch[order]) {
			if len(b.Records) > 0 {
				b.Held = &source.Held{}
			}
		}), `Held says since when: Fetch after "": Since is zero`},
		"ends at the beginning": {edit(func(b *source.Batch[order]) {
			if b.To == "10" {
				b.To = ""
			}
		}), `To is never the cursor before the first record: Fetch after "9": To is empty`},
		"ends now and then": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if err == nil && after == "10" && limit == 1 {
				err = source.ErrEnd
			}
			return b, err
		}), `ErrEnd stays: call 2 after "10" returned an empty batch after ErrEnd`},
		"moves on at the end": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			b, err := src.Fetch(ctx, after, limit)
			if limit == 100 {
				b.To = "11"
			}
			return b, err
		}), `at the end a batch is empty and To equals From: Fetch after "10": 0 records, To "11"`},
		"fails at the end": {broken(func(src *sourcetest.Fake[order], after source.Cursor, limit int) (source.Batch[order], error) {
			if limit == 100 {
				return source.Batch[order]{}, errors.New("out of range")
			}
			return src.Fetch(ctx, after, limit)
		}), `the end is an empty batch or ErrEnd: Fetch after "10": out of range`},
		"does not look at its context": {source.Func[order](func(_ context.Context, after source.Cursor, limit int) (source.Batch[order], error) {
			src := &sourcetest.Fake[order]{}
			src.Append(orders...)
			return src.Fetch(ctx, after, limit)
		}), `Fetch honours its context: after "", with a context that has ended: no error`},
	} {
		t.Run(name, func(t *testing.T) {
			err := test(t, c.src, nil)
			require.ErrorContains(t, err, c.want)
			t.Log(err)
		})
	}
}

func TestSourceThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		defer close(free)
		err := test(t, source.Func[order](func(context.Context, source.Cursor, int) (source.Batch[order], error) {
			<-free
			return source.Batch[order]{}, nil
		}), nil)
		require.ErrorContains(t, err, `Fetch returns soon after its context ends: Fetch after "": did not return within 10s`)
	})
}

// Each Fetch returns at once, but following To would never end.
func TestSourceWithoutEnd(t *testing.T) {
	t.Parallel()
	moves := source.Func[order](func(_ context.Context, after source.Cursor, _ int) (source.Batch[order], error) {
		n, _ := strconv.Atoi(string(after))
		return source.Batch[order]{From: after, To: source.Cursor(strconv.Itoa(n + 1))}, nil
	})
	require.ErrorContains(t, test(t, moves, nil), "To stays the same after the last record: after \"10001\"")
	grows := source.Func[order](func(_ context.Context, after source.Cursor, _ int) (source.Batch[order], error) {
		n, _ := strconv.Atoi(string(after))
		return source.Batch[order]{From: after, To: source.Cursor(strconv.Itoa(n + 1)), Records: []order{{ID: n}}}, nil
	})
	require.ErrorContains(t, test(t, grows, nil), "the records are those expected: at \"21\": 21 records so far, want 10 in all")
}

func TestSourceThatCannotBeTested(t *testing.T) {
	t.Parallel()
	require.EqualError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[order]{}), "sourcetest: Options.Open is not set")
	var src sourcetest.Fake[order]
	src.Append(orders[:2]...)
	require.EqualError(t, test(t, &src, func(o *sourcetest.Options[order]) { o.Expected = orders[:2] }),
		"sourcetest: there are enough records to test with: got 2, need 3")
	require.EqualError(t, test(t, &src, func(o *sourcetest.Options[order]) { o.Expected, o.AtLeast = nil, 5 }),
		"sourcetest: there are enough records to test with: got 2, need 5")
	require.EqualError(t, test(t, &src, func(o *sourcetest.Options[order]) {
		o.Open = func(context.Context) (source.Source[order], error) { return nil, errors.New("no database") }
	}), "sourcetest: Open: no database")
	require.EqualError(t, test(t, nil, nil), "sourcetest: Options.Open returned neither a source nor an error")
	src.Append(orders[2:]...)
	opened := 0
	require.EqualError(t, test(t, &src, func(o *sourcetest.Options[order]) {
		o.Open = func(context.Context) (source.Source[order], error) {
			if opened++; opened > 1 {
				return nil, errors.New("opened already")
			}
			return &src, nil
		}
	}), "sourcetest: a source can be opened again: opened already")
	require.ErrorContains(t, test(t, &src, func(o *sourcetest.Options[order]) { o.Foreign = []source.Cursor{"3"} }),
		`a cursor that the source did not make is an error: Fetch after "3": 2 records and no error`)
}
