package filesink_test

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
)

// unzipped is content, with segments that are compressed as a reader sees them.
func unzipped(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range segments(t, dir) {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		var r io.Reader = f
		if strings.Contains(name, ".gz") {
			r, err = gzip.NewReader(f)
			require.NoError(t, err)
		}
		_, err = io.Copy(&all, r)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	return all.String()
}

// Each Write adds a member, and the file is a whole gzip file after each, even while
// it is open.
func TestGzip(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	o := filesink.Options[order]{Encoder: filesink.Gzip(filesink.JSONLines[order]())}
	f := open(t, dir, o)
	for i := range 5 {
		require.NoError(t, f.Write(ctx, batch(10*i, 10*i+10)))
		require.Equal(t, lines(0, 10*i+10), unzipped(t, dir))
	}
	require.NoError(t, f.Close())
	f = open(t, dir, o)
	require.NoError(t, f.Write(ctx, batch(50, 1000)))
	require.NoError(t, f.Seal(ctx))
	require.Equal(t, []string{"rows-0000000001.jsonl.gz"}, segments(t, dir))
	require.Equal(t, lines(0, 1000), unzipped(t, dir))
	require.Less(t, len(content(t, dir)), len(lines(0, 1000))/3)
}

func TestGzipCSV(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	f, err := filesink.Open(dir, filesink.Options[row.Row]{Encoder: filesink.Gzip(filesink.CSV[row.Row]())})
	require.NoError(t, err)
	defer f.Close()
	one, two := row.NewColumns([]string{"id"}, nil), row.NewColumns([]string{"id", "note"}, nil)
	require.NoError(t, f.Write(ctx, rowsOf(t, "", "1", one, []any{int64(1)})))
	require.NoError(t, f.Write(ctx, rowsOf(t, "1", "2", one, []any{int64(2)})))
	mixed := rowsOf(t, "2", "4", one, []any{int64(3)})
	mixed.Records = append(mixed.Records, rowsOf(t, "", "", two, []any{int64(4), "x"}).Records...)
	require.NoError(t, f.Write(ctx, mixed))
	require.Equal(t, []string{"rows-0000000001.csv.gz", "rows-0000000002.csv.gz.open"}, segments(t, dir))
	r := csv.NewReader(strings.NewReader(unzipped(t, dir)))
	r.FieldsPerRecord = -1
	all, err := r.ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{{"id"}, {"1"}, {"2"}, {"3"}, {"id", "note"}, {"4", "x"}}, all)
}

// failing is an encoder whose End fails, or leaves nothing.
type failing struct {
	filesink.Encoder[order]
	err *error
}

func (f failing) End(dst []byte, start int, before *io.SectionReader) ([]byte, error) {
	return dst[:start], *f.err
}

// An error of End is one of the Write, and no record is to blame.
func TestEndFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	err := errors.New("no compressor")
	f := open(t, t.TempDir(), filesink.Options[order]{Encoder: failing{filesink.JSONLines[order](), &err}})
	for range 2 {
		got := f.Write(ctx, batch(0, 3))
		require.ErrorIs(t, got, err)
		require.NotErrorIs(t, got, sink.ErrRejected)
	}
	err = nil
	require.ErrorContains(t, f.Write(ctx, batch(0, 3)), "the Encoder's End left nothing")
	at, err := f.Load(ctx)
	require.NoError(t, err)
	require.Empty(t, at)
}
