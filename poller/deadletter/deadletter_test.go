package deadletter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

var _ sink.Sink[poller.Rejected[item]] = (*deadletter.Dir[item])(nil)

type item struct {
	ID    int     `json:"id"`
	Value float64 `json:"value,omitempty"`
}

func open(t *testing.T, dir string) *deadletter.Dir[item] {
	t.Helper()
	d, err := deadletter.Open[item](dir, deadletter.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func list(t *testing.T, dir string) (letters []deadletter.Letter) {
	t.Helper()
	for l, err := range deadletter.List(dir) {
		require.NoError(t, err)
		letters = append(letters, l)
	}
	return letters
}

// refuse is a sink that stores records one by one and names those it refuses.
func refuse(bad map[int]bool, stored *[]int) sink.Sink[item] {
	return sink.Each(1, func(_ context.Context, i item) error {
		if bad[i.ID] {
			return sink.Reject(fmt.Errorf("item %d has no colour", i.ID))
		}
		*stored = append(*stored, i.ID)
		return nil
	})
}

// items is a source of items 1 to n, of which it cannot make those in bad.
func items(n int, bad map[int]bool) source.Source[item] {
	return source.Func[item](func(_ context.Context, after source.Cursor, limit int) (source.Batch[item], error) {
		at := 0
		if after != "" {
			if _, err := fmt.Sscanf(string(after), "item %d", &at); err != nil {
				return source.Batch[item]{}, err
			}
		}
		b := source.Batch[item]{From: after, To: after}
		for ; at < n && len(b.Records) < limit; at++ {
			key := fmt.Sprintf("id %d", at+1)
			to := source.Cursor(fmt.Sprintf("item %d", at+1))
			if bad[at+1] && len(b.Records) > 0 {
				break
			}
			if bad[at+1] {
				return b, &source.BadRecord{Key: key, To: to, Err: errors.New("NULL does not fit into int")}
			}
			b.Records, b.To, b.Position = append(b.Records, item{ID: at + 1}), to, key
		}
		b.More = at < n
		return b, nil
	})
}

func pipeline(src source.Source[item], to sink.Sink[item], letters sink.Sink[poller.Rejected[item]]) *poller.Poller[item] {
	return &poller.Poller[item]{
		Name: "items", Source: src, Sink: to, Checkpointer: &pollertest.Checkpointer{},
		DeadLetter: letters, Logger: slog.New(slog.DiscardHandler),
	}
}

// Both kinds of records become letters, also several of one batch, and a replay
// delivers them after a fix.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	letters := open(t, dir)
	refused, unreadable := map[int]bool{2: true, 3: true, 9: true}, map[int]bool{5: true, 6: true}
	var stored []int
	require.NoError(t, pipeline(items(10, unreadable), refuse(refused, &stored), letters).Drain(t.Context()))
	assert.Equal(t, []int{1, 4, 7, 8, 10}, stored)

	got := list(t, dir)
	var what []string
	for _, l := range got {
		assert.Equal(t, "items", l.Pipeline)
		assert.False(t, l.Time.IsZero())
		assert.Regexp(t, "^[0-9a-f]{32}$", l.ID)
		what = append(what, fmt.Sprintf("%s-%s+%d %s%s %s", l.From, l.To, l.Index, l.Key, l.Record, l.Error))
	}
	assert.Equal(t, []string{
		`-item 4+1 {"id":2} rejected: item 2 has no colour`,
		`-item 4+2 {"id":3} rejected: item 3 has no colour`,
		`item 4-item 5+0 id 5 source: the record with id 5 cannot be read: NULL does not fit into int`,
		`item 5-item 6+0 id 6 source: the record with id 6 cannot be read: NULL does not fit into int`,
		`item 6-item 10+2 {"id":9} rejected: item 9 has no colour`,
	}, what)

	// Half of it is fixed: the replay ends at the first record that is not.
	stored = nil
	delete(refused, 2)
	replay := pipeline(&deadletter.Source[item]{Dir: dir, Refetch: items(10, unreadable)}, refuse(refused, &stored), nil)
	err := replay.Drain(t.Context())
	require.ErrorContains(t, err, "item 3 has no colour")
	replay.BatchSize = 1
	require.ErrorContains(t, replay.Drain(t.Context()), "item 3 has no colour")
	assert.Equal(t, []int{2}, stored, "the Poller saves the cursor after what is stored before it ends")

	// The rest is fixed, and the replay goes on.
	stored = nil
	clear(refused)
	clear(unreadable)
	require.NoError(t, replay.Drain(t.Context()))
	assert.Equal(t, []int{3, 5, 6, 9}, stored)
	require.NoError(t, replay.Drain(t.Context()))
	assert.Len(t, stored, 4, "the checkpoint of the replay remembers what was replayed")
}

// The format is stable: readers of other programs depend on it.
func TestFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	letters := open(t, dir)
	var stored []int
	require.NoError(t, pipeline(items(3, map[int]bool{3: true}), refuse(map[int]bool{2: true}, &stored), letters).Drain(t.Context()))
	text, err := os.ReadFile(filepath.Join(dir, "letters-0000000001.jsonl.open"))
	require.NoError(t, err)
	masked := regexp.MustCompile(`"time":"[^"]+Z"`).ReplaceAllString(string(text), `"time":"<time>"`)
	assert.Equal(t, `{"id":"009d152b0af34cd8853db76db6bae894","pipeline":"items","time":"<time>","from":"","to":"item 2","index":1,"error":"rejected: item 2 has no colour","record":{"id":2}}
{"id":"53bd19ff1115cc580f26962dcd37733d","pipeline":"items","time":"<time>","from":"item 2","to":"item 3","key":"id 3","error":"source: the record with id 3 cannot be read: NULL does not fit into int"}
`, masked)
	info, err := os.Stat(filepath.Join(dir, "letters-0000000001.jsonl.open"))
	require.NoError(t, err)
	assert.Zero(t, info.Mode().Perm()&0o077, "the values of records are for the owner")
}

// A record that cannot be written as JSON, which may be why the sink refused it, is
// stored without its values. Its source has it.
func TestRecordThatIsNoJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	bad := poller.Rejected[item]{Pipeline: "p", Record: item{1, math.NaN()}, From: "", To: "item 1", Err: "rejected: not a number"}
	require.NoError(t, d.Write(t.Context(), source.Batch[poller.Rejected[item]]{To: "item 1", Records: []poller.Rejected[item]{bad}}))
	got := list(t, dir)
	require.Len(t, got, 1)
	assert.Nil(t, got[0].Record)
	assert.Equal(t, "rejected: not a number; the record cannot be written as JSON: json: unsupported value: NaN", got[0].Error)

	var stored []int
	require.ErrorContains(t, pipeline(&deadletter.Source[item]{Dir: dir}, refuse(nil, &stored), nil).Drain(t.Context()), "it has no record: set Source.Refetch")
	require.NoError(t, pipeline(&deadletter.Source[item]{Dir: dir, Refetch: items(3, nil)}, refuse(nil, &stored), nil).Drain(t.Context()))
	assert.Equal(t, []int{1}, stored)
}

// Copies that a crash makes have one ID, and are listed and replayed once.
func TestCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	letter := func(i int) source.Batch[poller.Rejected[item]] {
		r := poller.Rejected[item]{Pipeline: "p", Record: item{ID: i}, From: "item 0", To: "item 9", Index: i, Err: "rejected: no"}
		return source.Batch[poller.Rejected[item]]{From: "item 0", To: "item 9", Records: []poller.Rejected[item]{r}}
	}
	for _, i := range []int{1, 2, 1, 2, 2, 3} {
		require.NoError(t, d.Write(t.Context(), letter(i)))
	}
	require.NoError(t, d.Close())
	d = open(t, dir)
	require.NoError(t, d.Write(t.Context(), letter(3)), "the process died before the cursor was saved")
	text, err := os.ReadFile(filepath.Join(dir, "letters-0000000001.jsonl.open"))
	require.NoError(t, err)
	assert.Equal(t, 5, strings.Count(string(text), "\n"), "1, 2, 1, 2, 3")
	assert.Len(t, list(t, dir), 3)
	for _, size := range []int{1, 2, 5} {
		var stored []int
		p := pipeline(&deadletter.Source[item]{Dir: dir}, refuse(nil, &stored), nil)
		p.BatchSize = size
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, []int{1, 2, 3}, stored)
	}
	assert.NotEqual(t, list(t, dir)[0].ID, list(t, dir)[1].ID)
}

// A row that the source could not make has no JSON, and its letter is written.
func TestRows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := deadletter.Open[row.Row](dir, deadletter.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	r, err := row.Of(row.NewColumns([]string{"id", "price", "note"}, []row.Kind{row.Number, row.Number}), int64(1), "1.10", nil)
	require.NoError(t, err)
	for _, rejected := range []poller.Rejected[row.Row]{{Record: r, Err: "rejected: no"}, {Key: "id 2", Err: "too large"}} {
		require.NoError(t, d.Write(t.Context(), source.Batch[poller.Rejected[row.Row]]{Records: []poller.Rejected[row.Row]{rejected}}))
	}
	letters := list(t, dir)
	require.Len(t, letters, 2)
	require.Nil(t, letters[1].Record)
	text, err := json.Marshal(poller.Rejected[row.Row]{Key: "id 2"}) // by a sink of another kind
	require.NoError(t, err)
	require.NotContains(t, string(text), "record")

	s := &deadletter.Source[row.Row]{Dir: dir}
	b, err := s.Fetch(t.Context(), "", 5)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	text, err = b.Records[0].AppendJSON(nil)
	require.NoError(t, err)
	assert.Equal(t, `{"id":1,"price":1.10,"note":null}`, string(text))
	_, err = s.Fetch(t.Context(), b.To, 5)
	require.ErrorContains(t, err, letters[1].ID+" id 2 cannot be read: it has no record: set Source.Refetch")
}

// A line that is damaged is named, and the letters around it are read.
func TestDamagedLine(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"{\"id\":\n", "{}\n", "\x00\x00\n", "[]\n", "\n"} {
		dir := t.TempDir()
		d := open(t, dir)
		var stored []int
		require.NoError(t, pipeline(items(3, nil), refuse(map[int]bool{1: true, 2: true}, &stored), d).Drain(t.Context()))
		require.NoError(t, d.Close())
		files, err := filesink.Open(dir, filesink.Options[deadletter.Letter]{})
		require.NoError(t, err)
		require.NoError(t, files.Seal(t.Context()))
		require.NoError(t, files.Close())
		path := filepath.Join(dir, "letters-0000000001.jsonl")
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		first, second, _ := strings.Cut(string(text), "\n")
		require.NoError(t, os.WriteFile(path, []byte(first+"\n"+line+second), 0o600))

		var ids, errs []string
		for l, err := range deadletter.List(dir) {
			if err != nil {
				errs = append(errs, err.Error())
				continue
			}
			ids = append(ids, string(l.Record))
		}
		assert.Equal(t, []string{`{"id":1}`, `{"id":2}`}, ids, line)
		require.Len(t, errs, 1, line)
		assert.Contains(t, errs[0], fmt.Sprintf("deadletter: %s: the line at offset %d is not a letter: ", path, len(first)+1))

		stored = nil
		p := pipeline(&deadletter.Source[item]{Dir: dir}, refuse(nil, &stored), nil)
		require.ErrorContains(t, p.Drain(t.Context()), "is not a letter")
		var again sinktest.Fake[poller.Rejected[item]]
		p.DeadLetter = &again
		require.NoError(t, p.Drain(t.Context()))
		assert.Equal(t, []int{1, 2}, stored)
		assert.Len(t, again.Records(), 1)
	}
}

func TestListOfNothing(t *testing.T) {
	t.Parallel()
	assert.Empty(t, list(t, filepath.Join(t.TempDir(), "none")))
	dir := t.TempDir()
	open(t, dir)
	assert.Empty(t, list(t, dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "checkpoint"), []byte("x"), 0o600))
	for _, err := range deadletter.List(dir) {
		require.ErrorContains(t, err, "deadletter: filesink: "+dir+": the checkpoint cannot be used")
	}
}

// A crash at any call loses no letter, and List has each once.
func TestNoLetterIsLost(t *testing.T) {
	t.Parallel()
	limit := 200
	if testing.Short() {
		limit = 40
	}
	var stored *[]int
	n, err := pollertest.Explore(t.Context(), pollertest.Exploration[item]{
		Expected: []item{{ID: 1}, {ID: 4}, {ID: 6}},
		Reports:  true,
		Limit:    limit,
		New: func(context.Context) (pollertest.Machine[item], error) {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				return pollertest.Machine[item]{}, err
			}
			stored = new([]int)
			got, checkpoint := stored, &pollertest.Checkpointer{}
			var letters *deadletter.Dir[item]
			return pollertest.Machine[item]{
				Start: func(context.Context) (*poller.Poller[item], error) {
					letters, err = deadletter.Open[item](dir, deadletter.Options{Distinct: true})
					p := pipeline(items(6, map[int]bool{5: true}), refuse(map[int]bool{2: true, 3: true}, got), letters)
					p.Checkpointer, p.BatchSize = checkpoint, 4
					return p, err
				},
				Kill: func() error { return letters.Close() },
				Delivered: func(context.Context) (all []item, err error) {
					var ids []string
					for l, err := range deadletter.List(dir) {
						if err != nil {
							return nil, err
						}
						ids = append(ids, l.Key+string(l.Record))
					}
					if want := `[{"id":2} {"id":3} id 5]`; fmt.Sprint(ids) != want {
						return nil, fmt.Errorf("the letters are %v, not %s", ids, want)
					}
					for _, id := range *got {
						all = append(all, item{ID: id})
					}
					return all, nil
				},
				Remove: func() error { return os.RemoveAll(dir) },
			}, nil
		},
	})
	require.NoError(t, err)
	require.Greater(t, n, limit/2)
	t.Logf("%d scenarios", n)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	_, err := deadletter.Open[item](dir, deadletter.Options{})
	require.ErrorIs(t, err, filesink.ErrInUse)
	require.ErrorContains(t, err, "deadletter: ")
	_, err = deadletter.Open[item]("", deadletter.Options{})
	require.Error(t, err)
}

// A directory that is not mounted is refused, and nothing is created in its place.
func TestMustExist(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "letters")
	_, err := deadletter.Open[item](dir, deadletter.Options{MustExist: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "deadletter: ")
	require.NoDirExists(t, dir)
	require.NoError(t, open(t, dir).Close())
	d, err := deadletter.Open[item](dir, deadletter.Options{MustExist: true})
	require.NoError(t, err)
	require.NoError(t, d.Close())
}
