package sourcetest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// fakeWithBad is a fake that cannot make the orders with some IDs.
func fakeWithBad(ids ...int) *sourcetest.Fake[order] {
	src := &sourcetest.Fake[order]{Bad: func(o order) error {
		if slices.Contains(ids, o.ID) {
			return errors.New("NULL does not fit")
		}
		return nil
	}}
	src.Append(orders...)
	return src
}

func testBad(t *testing.T, src source.Source[order], ids ...int) error {
	t.Helper()
	return test(t, src, func(o *sourcetest.Options[order]) {
		o.Bad = len(ids)
		o.Expected = slices.DeleteFunc(slices.Clone(orders), func(o order) bool { return slices.Contains(ids, o.ID) })
	})
}

func TestFakeWithBadRecordsPasses(t *testing.T) {
	t.Parallel()
	for _, ids := range [][]int{{0}, {9}, {4}, {3, 4, 5}, {0, 2, 4, 6, 8}, {0, 1, 8, 9}} {
		require.NoError(t, testBad(t, fakeWithBad(ids...), ids...), ids)
		finite := fakeWithBad(ids...)
		finite.End()
		require.NoError(t, testBad(t, finite, ids...), ids)
	}
}

func TestBrokenBadRecordsFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(bad *source.BadRecord, after source.Cursor, limit int) error
		want   string
	}{
		"does not move": {func(bad *source.BadRecord, after source.Cursor, _ int) error {
			bad.To = after
			return bad
		}, `the To of a BadRecord is the cursor after it: Fetch after "4": To is "4"`},
		"has no To": {func(bad *source.BadRecord, _ source.Cursor, _ int) error {
			bad.To = ""
			return bad
		}, `the To of a BadRecord is the cursor after it: Fetch after "4": To is ""`},
		"has no key": {func(bad *source.BadRecord, _ source.Cursor, _ int) error {
			bad.Key = ""
			return bad
		}, `a BadRecord names its key: Fetch after "4"`},
		"has no reason": {func(bad *source.BadRecord, _ source.Cursor, _ int) error {
			bad.Err = nil
			return bad
		}, `a BadRecord says why: Fetch after "4": Err is nil`},
		"skips a record": {func(bad *source.BadRecord, _ source.Cursor, _ int) error {
			bad.To = "6"
			return bad
		}, `the records are those expected: with limit 1: record 4 is {"ID":6`},
		"skips a record with some limits": {func(bad *source.BadRecord, _ source.Cursor, limit int) error {
			if limit == 7 {
				bad.To = "6"
			}
			return bad
		}, `every limit yields every record once, in the same order: with limit 7: record 4 is {"ID":6`},
		"names another key with some limits": {func(bad *source.BadRecord, _ source.Cursor, limit int) error {
			if limit == 7 {
				bad.Key = "record 6"
			}
			return bad
		}, `every limit yields the same bad records: with limit 7: ["record 6"], want ["record 5"]`},
		"is a plain error": {func(bad *source.BadRecord, _ source.Cursor, _ int) error { return bad.Err },
			`Fetch succeeds while nothing is wrong: Fetch after "4", after 4 records: NULL does not fit`},
	} {
		t.Run(name, func(t *testing.T) {
			fake := fakeWithBad(4)
			err := testBad(t, source.Func[order](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[order], error) {
				b, err := fake.Fetch(ctx, after, limit)
				if bad := (*source.BadRecord)(nil); errors.As(err, &bad) {
					err = c.change(bad, after, limit)
				}
				return b, err
			}), 4)
			require.ErrorContains(t, err, c.want)
			t.Log(err)
		})
	}
	require.ErrorContains(t, test(t, fakeWithBad(4), func(o *sourcetest.Options[order]) { o.Expected = slices.Delete(slices.Clone(orders), 4, 5) }),
		`each record that cannot be made is reported once, as a BadRecord: got 1, want 0: ["record 5"]`)
	require.ErrorContains(t, testBad(t, fakeWithBad(4), 4, 5), `each record that cannot be made is reported once, as a BadRecord: got 1, want 2`)
}

// A source that returns the records before a bad one together with its error loses
// them, because the batch of an error is ignored.
func TestASourceThatReturnsRecordsWithABadOneFails(t *testing.T) {
	t.Parallel()
	fake, all := fakeWithBad(4), fakeWithBad()
	err := testBad(t, source.Func[order](func(ctx context.Context, after source.Cursor, limit int) (source.Batch[order], error) {
		b, err := fake.Fetch(ctx, after, limit)
		if err == nil && len(b.Records) > 0 && b.To == "4" && limit > 4 {
			_, err = fake.Fetch(ctx, b.To, limit)
			all, _ := all.Fetch(ctx, after, 4)
			return all, err
		}
		return b, err
	}), 4)
	require.ErrorContains(t, err, "every limit yields every record once, in the same order: with limit 7: ")
}
