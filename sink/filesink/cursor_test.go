package filesink_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

func TestWriteComparesTheCursor(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, filesink.Options[order]{})
	require.NoError(t, f.Write(ctx, batch(0, 2)))
	require.NoError(t, f.Write(ctx, batch(0, 2)), "its answer was lost")
	require.ErrorIs(t, f.Write(ctx, batch(0, 3)), poller.ErrConflict)
	require.ErrorIs(t, f.Write(ctx, batch(5, 6)), poller.ErrConflict)
	require.ErrorContains(t, f.Write(ctx, batch(5, 6)), `from "5" to "6": checkpoint was moved by another writer: expected "5"`)

	still := batch(2, 4)
	still.To = "2"
	err := f.Write(ctx, still)
	require.ErrorContains(t, err, "2 records does not move the cursor")
	require.NotErrorIs(t, err, sink.ErrRejected)
	require.ErrorContains(t, f.Save(ctx, "2", "n\n"), "not printable ASCII")

	require.NoError(t, f.Write(ctx, batch(2, 2)), "nothing to do")
	moved := source.Batch[order]{From: "2", To: "7"}
	require.NoError(t, f.Write(ctx, moved))
	require.NoError(t, f.Save(ctx, "2", "7"))
	require.NoError(t, f.Write(ctx, batch(7, 8)))
	require.Equal(t, lines(0, 2)+lines(7, 8), content(t, dir))
	require.NoError(t, f.Close())

	f = open(t, dir, filesink.Options[order]{})
	require.ErrorIs(t, f.Write(ctx, batch(7, 8)), poller.ErrConflict, "another handle's write is not a lost answer of this one")
}

// The history is read while another handle has the directory open.
func TestHistoryWithoutTheLock(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	_, err := filesink.History(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoDirExists(t, filepath.Join(dir, "none"))

	f := open(t, dir, filesink.Options[order]{})
	for i := range 9 {
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
		want, err := f.History()
		require.NoError(t, err)
		got, err := filesink.History(dir)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, cursor(i+1), got[0].Cursor)
	}
	_, err = filesink.Open(dir, filesink.Options[order]{})
	require.ErrorIs(t, err, filesink.ErrInUse)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "checkpoint"), []byte("{}"), 0o600))
	_, err = filesink.History(dir)
	require.ErrorContains(t, err, "cut off")
}

func TestHistoryAndRewind(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, filesink.Options[order]{})
	for i := range 100 {
		require.NoError(t, f.Write(ctx, batch(i, i+1)))
	}
	history, err := f.History()
	require.NoError(t, err)
	var cursors []source.Cursor
	for i, e := range history {
		cursors = append(cursors, e.Cursor)
		if i < len(history)-1 {
			require.Equal(t, "rows-0000000001.jsonl", e.Segment)
			require.False(t, e.Time.IsZero())
		}
	}
	require.Equal(t, []source.Cursor{
		"100", "99", "98", "97", "96", "94", "92", "88", "80", "72", "64", "48", "32", "",
	}, cursors)

	at := history[10]
	require.NoError(t, f.Rewind(at.Cursor))
	require.ErrorIs(t, f.Write(ctx, batch(100, 101)), poller.ErrConflict, "whoever was writing is told")
	require.ErrorIs(t, f.Write(ctx, batch(64, 65)), poller.ErrConflict, "until it loads")
	c, err := f.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, at.Cursor, c)
	require.NoError(t, f.Write(ctx, batch(64, 100)))
	require.Equal(t, []string{"rows-0000000001.jsonl", "rows-0000000002.jsonl.open"}, segments(t, dir))
	require.Equal(t, lines(0, 100)+lines(64, 100), content(t, dir))

	first, err := os.ReadFile(filepath.Join(dir, "rows-0000000001.jsonl"))
	require.NoError(t, err)
	require.Equal(t, lines(0, 64), string(first[:at.Offset]), "where to cut what comes again")
	require.Equal(t, int64(64), at.Rows)
	require.NoError(t, f.Rewind(""))
	c, err = f.Load(ctx)
	require.NoError(t, err)
	require.Empty(t, c)
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, filesink.Options[order]{})
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	_, err := f.Load(ctx)
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, f.Write(ctx, batch(0, 1)), why)
	require.ErrorIs(t, f.Save(ctx, "", "1"), why)
	require.ErrorIs(t, f.Seal(ctx), why)
	require.NoError(t, f.Write(context.Background(), batch(0, 1)))
	require.Equal(t, lines(0, 1), content(t, dir))
}

// endless cancels the context when it is encoded.
type endless struct{ cancel func() }

func (e endless) AppendJSON(dst []byte) ([]byte, error) {
	e.cancel()
	return append(dst, "{}"...), nil
}

func TestCanceledWhileEncoding(t *testing.T) {
	t.Parallel()
	f, err := filesink.Open(t.TempDir(), filesink.Options[endless]{})
	require.NoError(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	err = f.Write(ctx, source.Batch[endless]{To: "1", Records: []endless{{cancel}}})
	require.ErrorIs(t, err, context.Canceled)
	c, err := f.Load(context.Background())
	require.NoError(t, err)
	require.Empty(t, c)
}

func TestCanceledBetweenSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := filesink.Open(dir, filesink.Options[row.Row]{})
	require.NoError(t, err)
	defer f.Close()
	b := source.Batch[row.Row]{To: "3"}
	for _, name := range []string{"a", "b", "c"} {
		b.Records = append(b.Records, rowsOf(t, "", "", row.NewColumns([]string{name}, nil), []any{int64(1)}).Records...)
	}
	ctx := &expiring{Context: context.Background(), looks: 4} // before the turn, encoding, the first segment, the second
	require.ErrorIs(t, f.Write(ctx, b), context.Canceled)
	require.NoError(t, f.Write(context.Background(), b))
	require.Equal(t, `{"a":1}`+"\n"+`{"b":1}`+"\n"+`{"c":1}`+"\n", content(t, dir))
}

// expiring ends when it has been looked at so many times.
type expiring struct {
	context.Context
	looks int
}

func (e *expiring) Err() error {
	if e.looks--; e.looks <= 0 {
		return context.Canceled
	}
	return nil
}

type raw string

func (r raw) AppendJSON(dst []byte) ([]byte, error) {
	if r == "bad" {
		return append(dst, "half of i"...), errors.New("it is bad")
	}
	return append(dst, r...), nil
}

func TestRejected(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f, err := filesink.Open(dir, filesink.Options[raw]{})
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Write(ctx, source.Batch[raw]{To: "1", Records: []raw{"1"}}))
	for poison, want := range map[raw]string{
		"bad":         "it is bad",
		"":            "appended nothing",
		"{\n\"a\":1}": "must be one line",
	} {
		err := f.Write(ctx, source.Batch[raw]{From: "1", To: "4", Records: []raw{"2", poison, "4"}})
		require.ErrorIs(t, err, sink.ErrRejected)
		require.ErrorContains(t, err, "record 2 of 3 cannot be encoded as jsonl: ")
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, f.Write(ctx, source.Batch[raw]{From: "1", To: "2", Records: []raw{"2"}}))
	require.Equal(t, "1\n2\n", content(t, dir))
}

func TestRejectedByNothing(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, filesink.Options[order]{Encoder: silent{filesink.JSONLines[order]()}})
	err := f.Write(ctx, batch(0, 1))
	require.ErrorIs(t, err, sink.ErrRejected)
	require.ErrorContains(t, err, "the Encoder appended nothing")
	require.Empty(t, segments(t, dir))
}

type silent struct{ filesink.Encoder[order] }

func (silent) Append(dst []byte, _ *order) ([]byte, error) { return dst, nil }

// Several Dirs may be opened with the same Options.
func TestSharedEncoder(t *testing.T) {
	t.Parallel()
	o := filesink.Options[order]{Encoder: filesink.JSONLines[order]()}
	var all sync.WaitGroup
	for range 4 {
		dir := t.TempDir()
		f := open(t, dir, o)
		all.Go(func() {
			for i := range 20 {
				assert.NoError(t, f.Write(context.Background(), batch(i*100, i*100+100)))
			}
			assert.Equal(t, lines(0, 2000), content(t, dir))
		})
	}
	all.Wait()
}

type byPointer struct{ n int }

func (p *byPointer) AppendJSON(dst []byte) ([]byte, error) {
	return append(dst, strings.Repeat("1", p.n)...), nil
}

type appender interface {
	AppendJSON(dst []byte) ([]byte, error)
}

func TestJSONLines(t *testing.T) {
	t.Parallel()
	html, compacted := `{"a":"<&>\n"}`+"\n", `{"a":[1,2]}`+"\n" // byte for byte
	require.Equal(t, "22\n", encoded(t, filesink.JSONLines[raw](), "22"))
	require.Equal(t, "111\n", encoded(t, filesink.JSONLines[byPointer](), byPointer{3}))
	require.Equal(t, "11\n", encoded(t, filesink.JSONLines[*byPointer](), &byPointer{2}))
	require.Equal(t, "1\n", encoded[appender](t, filesink.JSONLines[appender](), &byPointer{1}))
	require.Equal(t, html, encoded(t, filesink.JSONLines[map[string]string](), map[string]string{"a": "<&>\n"}))
	require.Equal(t, compacted, encoded(t, filesink.JSONLines[json.RawMessage](), json.RawMessage("{\"a\":\n [1,\n2]}")))
	require.Equal(t, "null\n", encoded[any](t, filesink.JSONLines[any](), nil))

	var none appender
	_, err := filesink.JSONLines[appender]().Append(nil, &none)
	require.ErrorContains(t, err, "nil")
}

func encoded[T any](t *testing.T, e filesink.Encoder[T], v T) string {
	t.Helper()
	const before = "kept\n"
	out, err := e.Append([]byte(before), &v)
	require.NoError(t, err)
	after, found := strings.CutPrefix(string(out), before)
	require.True(t, found)
	return after
}
