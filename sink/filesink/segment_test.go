package filesink_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

func TestSegmentLimits(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]filesink.Options[order]{
		"rows":  {SegmentRows: 4},
		"bytes": {SegmentBytes: int64(len(lines(0, 4)))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, dir := context.Background(), t.TempDir()
			var sealed []filesink.Segment
			o.OnSeal = appendTo(&sealed)
			f := open(t, dir, o)
			require.NoError(t, f.Write(ctx, batch(0, 2)))
			require.Empty(t, sealed)
			require.NoError(t, f.Write(ctx, batch(2, 5)), "one over the limit, since a batch is never split")
			require.NoError(t, f.Write(ctx, batch(5, 6)))
			require.Equal(t, []string{"rows-0000000001.jsonl", "rows-0000000002.jsonl.open"}, segments(t, dir))
			require.NoError(t, f.Save(ctx, "6", "60"))
			require.NoError(t, f.Seal(ctx))
			require.Equal(t, []filesink.Segment{
				{Path: filepath.Join(dir, "rows-0000000001.jsonl"), Rows: 5, Bytes: int64(len(lines(0, 5))), From: "", To: "5"},
				{Path: filepath.Join(dir, "rows-0000000002.jsonl"), Rows: 1, Bytes: int64(len(lines(5, 6))), From: "5", To: "60"},
			}, sealed)
		})
	}
}

// appendTo returns an OnSeal that takes notes. Read them after Seal.
func appendTo(sealed *[]filesink.Segment) func(context.Context, filesink.Segment) error {
	return func(_ context.Context, s filesink.Segment) error {
		*sealed = append(*sealed, s)
		return nil
	}
}

// safeBuffer is safe for use by the test and the goroutine of the Dir.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

func TestSegmentAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		var log safeBuffer
		o := filesink.Options[order]{SegmentAge: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		f := open(t, dir, o)
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		wait(2 * time.Hour)
		require.Empty(t, segments(t, dir), "no rows, no segment")

		require.NoError(t, f.Write(ctx, batch(0, 1)))
		wait(59 * time.Minute)
		require.NoError(t, f.Write(ctx, batch(1, 2)))
		require.Equal(t, []string{"rows-0000000001.jsonl.open"}, segments(t, dir))
		wait(time.Minute)
		require.Equal(t, []string{"rows-0000000001.jsonl"}, segments(t, dir))

		require.NoError(t, f.Write(ctx, batch(2, 3)))
		wait(30 * time.Minute)
		require.NoError(t, f.Close())
		wait(time.Hour)
		require.Equal(t, []string{"rows-0000000001.jsonl", "rows-0000000002.jsonl.open"}, segments(t, dir), "closed: nobody watches")
		f = open(t, dir, o)
		wait(0)
		require.Equal(t, []string{"rows-0000000001.jsonl", "rows-0000000002.jsonl"}, segments(t, dir), "due since before Open")

		require.NoError(t, f.Write(ctx, batch(3, 4)))
		require.NoError(t, os.Rename(dir, dir+".away"))
		wait(time.Hour + time.Minute)
		require.Regexp(t, `^\S+ level=WARN msg=".*" op=seal dir=\S+ err=".*put them back.*"\n$`, log.take(), "once")
		require.NoError(t, os.Rename(dir+".away", dir))
		wait(10 * time.Second)
		require.Regexp(t, `^\S+ level=INFO msg=".*" op=seal dir=\S+\n$`, log.take())
		require.Equal(t, []string{"rows-0000000001.jsonl", "rows-0000000002.jsonl", "rows-0000000003.jsonl"}, segments(t, dir))
		require.Equal(t, lines(0, 4), content(t, dir))
		require.NoError(t, f.Close())
	})
}

// By default the rows of a small table are in a complete file within minutes.
func TestSegmentAgeDefault(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]string{0: "rows-0000000001.jsonl", -1: "rows-0000000001.jsonl.open"} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, dir, filesink.Options[order]{SegmentAge: age})
			require.NoError(t, f.Write(context.Background(), batch(0, 1)))
			time.Sleep(5*time.Minute - time.Nanosecond)
			synctest.Wait()
			require.Equal(t, []string{"rows-0000000001.jsonl.open"}, segments(t, dir))
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.Equal(t, []string{want}, segments(t, dir))
			require.NoError(t, f.Close())
		})
	}
}

func TestSegmentAgeWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		var back time.Duration
		start := func() *filesink.Dir[order] {
			o := filesink.Options[order]{SegmentAge: time.Hour}
			f, err := filesink.OpenWithClock(dir, o, func() time.Time { return time.Now().Round(0).Add(-back) })
			require.NoError(t, err)
			return f
		}
		f := start()
		require.NoError(t, f.Write(ctx, batch(0, 1)))
		require.NoError(t, f.Close())
		f = start()
		back = 24 * time.Hour
		require.NoError(t, f.Write(ctx, batch(1, 2)))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"rows-0000000001.jsonl"}, segments(t, dir))
		require.NoError(t, f.Close())
	})
}

func TestSegmentAgeWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := filesink.Options[order]{SegmentAge: time.Hour}
	f := open(t, dir, o)
	require.NoError(t, f.Write(context.Background(), batch(0, 1)))
	require.NoError(t, f.Close())
	synctest.Test(t, func(t *testing.T) {
		require.Equal(t, 2000, time.Now().Year(), "the clock of a bubble")
		f := open(t, dir, o)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"rows-0000000001.jsonl"}, segments(t, dir))
		require.NoError(t, f.Close())
	})
}

func rowsOf(t *testing.T, from, to source.Cursor, columns *row.Columns, values ...[]any) source.Batch[row.Row] {
	t.Helper()
	b := source.Batch[row.Row]{From: from, To: to}
	for _, v := range values {
		r, err := row.Of(columns, v...)
		require.NoError(t, err)
		b.Records = append(b.Records, r)
	}
	return b
}

func TestChangedColumnsStartASegment(t *testing.T) {
	t.Parallel()
	one := func() *row.Columns { return row.NewColumns([]string{"id", "note"}, nil) }
	two := row.NewColumns([]string{"id", "note", "more"}, nil)
	write := func(t *testing.T, encoder filesink.Encoder[row.Row]) string {
		ctx, dir := context.Background(), t.TempDir()
		var sealed []filesink.Segment
		o := filesink.Options[row.Row]{Encoder: encoder, OnSeal: appendTo(&sealed)}
		start := func() *filesink.Dir[row.Row] {
			f, err := filesink.Open(dir, o)
			require.NoError(t, err)
			t.Cleanup(func() { f.Close() })
			return f
		}
		f := start()
		require.NoError(t, f.Write(ctx, rowsOf(t, "", "1", one(), []any{int64(1), nil})))
		require.NoError(t, f.Close())
		f = start() // it still knows the columns
		require.NoError(t, f.Write(ctx, rowsOf(t, "1", "2", one(), []any{int64(2), ""})))
		require.NoError(t, f.Write(ctx, rowsOf(t, "2", "3", one(), []any{int64(3), "a,b"})))
		mixed := rowsOf(t, "3", "5", one(), []any{int64(4), "x\r\n\"y\""})
		mixed.Records = append(mixed.Records, rowsOf(t, "", "", two, []any{int64(5), "five", true}).Records...)
		require.NoError(t, f.Write(ctx, mixed))
		require.NoError(t, f.Close())
		f = start()
		require.NoError(t, f.Write(ctx, rowsOf(t, "5", "6", one(), []any{int64(6), "six"})))
		require.NoError(t, f.Seal(ctx))
		require.Len(t, sealed, 3)
		for i, want := range []filesink.Segment{{Rows: 4, From: "", To: "5"}, {Rows: 1, From: "3", To: "5"}, {Rows: 1, From: "5", To: "6"}} {
			info, err := os.Stat(sealed[i].Path)
			require.NoError(t, err)
			want.Path, want.Bytes = sealed[i].Path, info.Size()
			require.Equal(t, want, sealed[i])
		}
		return content(t, dir)
	}
	t.Run("csv", func(t *testing.T) {
		t.Parallel()
		got := write(t, filesink.CSV[row.Row]())
		require.Equal(t, "id,note\r\n1,\r\n2,\"\"\r\n3,\"a,b\"\r\n4,\"x\r\n\"\"y\"\"\"\r\n"+
			"id,note,more\r\n5,five,true\r\n"+
			"id,note\r\n6,six\r\n", got)
		r := csv.NewReader(bytes.NewReader([]byte(got)))
		r.FieldsPerRecord = -1
		all, err := r.ReadAll()
		require.NoError(t, err)
		require.Len(t, all, 9)
	})
	t.Run("pointers", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		f, err := filesink.Open(dir, filesink.Options[*row.Row]{Encoder: filesink.CSV[*row.Row]()})
		require.NoError(t, err)
		defer f.Close()
		b := source.Batch[*row.Row]{To: "2"}
		for _, c := range []*row.Columns{row.NewColumns([]string{"id"}, nil), row.NewColumns([]string{"no"}, nil)} {
			b.Records = append(b.Records, &rowsOf(t, "", "", c, []any{int64(1)}).Records[0])
		}
		require.NoError(t, f.Write(context.Background(), b))
		require.Equal(t, "id\r\n1\r\nno\r\n1\r\n", content(t, dir))
	})
	t.Run("jsonl", func(t *testing.T) {
		t.Parallel()
		want := `{"id":1,"note":null}
{"id":2,"note":""}
{"id":3,"note":"a,b"}
{"id":4,"note":"x\r\n\"y\""}
{"id":5,"note":"five","more":true}
{"id":6,"note":"six"}
`
		require.Equal(t, want, write(t, nil))
	})
}

func TestChangedFormatStartsASegment(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	columns := row.NewColumns([]string{"id"}, nil)
	for i, encoder := range []filesink.Encoder[row.Row]{filesink.JSONLines[row.Row](), filesink.CSV[row.Row]()} {
		f, err := filesink.Open(dir, filesink.Options[row.Row]{Encoder: encoder})
		require.NoError(t, err)
		require.NoError(t, f.Write(ctx, rowsOf(t, cursor(i), cursor(i+1), columns, []any{int64(i)})))
		require.NoError(t, f.Close())
	}
	require.Equal(t, []string{"rows-0000000001.jsonl", "rows-0000000002.csv.open"}, segments(t, dir))
}
