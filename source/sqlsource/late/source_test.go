package late

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// Batches pass unchanged, late rows are reported when a check is due, and a check
// that fails does not fail the Fetch.
func TestSourceReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var found []Found
		table := &numbers{keys: []int{10, 20}}
		s := &Source[int]{Table: table, Logger: slog.New(slog.NewTextHandler(&log, nil)), Every: time.Minute,
			Report: func(_ context.Context, f Found) { found = append(found, f) }}
		require.Zero(t, s.Reading())
		fetch := func(after source.Cursor, want ...int) source.Cursor {
			b, err := s.Fetch(t.Context(), after, 10)
			require.NoError(t, err)
			require.Equal(t, want, b.Records)
			return b.To
		}
		at := fetch("", 10, 20)
		table.add(15)
		at = fetch(at)
		require.Empty(t, found, "it is not due yet")
		time.Sleep(time.Minute)
		at = fetch(at)
		require.Equal(t, []Found{{Rows: 1, Keys: []source.Cursor{"15"}, Total: 1}}, found)
		require.Contains(t, log.String(), `level=WARN msg="late rows" rows=1 total=1 first="id 15"`)
		time.Sleep(time.Minute)
		at = fetch(at)
		require.Len(t, found, 1, "once")
		require.Equal(t, Reading{Rows: 2, Late: 1, Keys: []string{"id 15"}}, s.Reading())
		require.Equal(t, 3, s.watch.size())

		// The keys of a batch and of a check cannot be read for a while. The keys
		// remembered before stay, and rows that appear after are found.
		failing := &failingKeys{numbers: table, fail: errors.New("gone")}
		s.watch.table = failing
		table.add(30)
		at = fetch(at, 30)
		time.Sleep(time.Minute)
		table.add(18)
		at = fetch(at)
		require.Contains(t, log.String(), `msg="check for late rows failed" err=gone`)
		failing.fail = nil
		table.add(40)
		at = fetch(at, 40)
		require.Equal(t, []source.Cursor{"18"}, found[1].Keys)
		table.add(25, 35)
		time.Sleep(time.Minute)
		fetch(at)
		require.Equal(t, []source.Cursor{"25", "35"}, found[2].Keys)
		require.Equal(t, Reading{Rows: 3, Late: 4, Keys: []string{"id 15", "id 18", "id 25", "id 35"}}, s.Reading())

		table.fail = errors.New("down")
		_, err := s.Fetch(t.Context(), at, 10)
		require.ErrorIs(t, err, table.fail)
	})
}

type failingKeys struct {
	*numbers
	fail error
}

func (f *failingKeys) Keys(ctx context.Context, after, to source.Cursor, limit int) ([]source.Cursor, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	return f.numbers.Keys(ctx, after, to, limit)
}

func TestSourceKeepsTheContract(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{0, 1, 4} {
		require.NoError(t, sourcetest.TestSource(t.Context(), sourcetest.Options[int]{
			Open: func(context.Context) (source.Source[int], error) {
				table := &numbers{keys: []int{1, 2, 3, 5, 8, 13}}
				return &Source[int]{Table: table, Rows: rows, Every: 1}, nil
			},
			Expected: []int{1, 2, 3, 5, 8, 13},
		}))
	}
}

func TestAuditRefusesOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{For: -1}, {Interval: -1}, {Rows: -1}} {
		_, err := Audit(t.Context(), &sqlsource.Table{Name: "t"}, o)
		require.ErrorContains(t, err, "is negative")
		require.Equal(t, retry.Fatal, retry.Classify(err))
	}
	_, err := Audit(t.Context(), &sqlsource.Table{Name: "t"}, Options{})
	require.ErrorContains(t, err, "DB is nil")
}

// The report claims no more than the readers saw.
func TestReportText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	clean := Reading{Rows: 5000}
	late := Reading{Rows: 5000, Late: 12, Keys: []string{"a 17, b x", "a 19, b y"}}
	for want, r := range map[string]Report{
		"The ceiling did not hold":                           {Below: late, Naive: late},
		"A reader without a ceiling missed rows":             {Below: clean, Naive: late},
		"None of them put it to the test":                    {Below: clean, Naive: clean},
		"No row was added: this shows nothing":               {},
		"All rows were held back":                            {Naive: clean},
		"this shows nothing about 100 of them":               {Below: Reading{Rows: 5000, Unchecked: 100}, Naive: late},
		"5000 rows read, 12 late: a 17, b x, a 19, b y\nThe": {Below: clean, Naive: late},
	} {
		r.Table, r.Ceiling, r.Start, r.End = "orders", "lock-fence", at, at.Add(time.Minute)
		require.Contains(t, r.String(), want)
		require.Contains(t, r.String(), "orders, 1m0s from 2026-01-31T12:00:00Z\nbelow the ceiling (lock-fence): ")
	}
}

// keyed is a table of rows that only have a key.
type keyed struct{ *numbers }

func (k keyed) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
	b, err := k.numbers.Fetch(ctx, after, limit)
	return source.Batch[row.Row]{From: b.From, To: b.To, Records: make([]row.Row, len(b.Records)),
		Guarantee: &source.Guarantee{Name: "lock-fence"}}, err
}

// An audit that is stopped still checks the rows it read, and does not claim to have
// checked others.
func TestAuditChecksWhenItIsStopped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail    error
		verdict string
	}{
		"a row appears last": {nil, "The ceiling did not hold"},
		"the table is gone":  {errors.New("gone"), "this shows nothing about 2 of them"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := &numbers{keys: []int{10}}
				below, naive := &reader{}, &reader{}
				for _, r := range []*reader{below, naive} {
					r.Table, r.Every, r.Logger = keyed{table}, time.Hour, slog.New(slog.DiscardHandler)
				}
				ctx, stop := context.WithCancel(t.Context())
				var r Report
				ended := make(chan error)
				go func() { ended <- audit(ctx, Options{}, &r, below, naive) }()
				time.Sleep(time.Second)
				table.add(20, 30)
				time.Sleep(time.Second)
				table.add(15, 25)
				table.mu.Lock()
				table.fail = c.fail
				table.mu.Unlock()
				stop()
				require.ErrorIs(t, <-ended, c.fail)
				r.Below, r.Naive = below.result(), naive.result()
				require.Equal(t, 2, r.Below.Rows)
				require.Contains(t, r.String(), c.verdict)
			})
		})
	}
}

// An audit that cannot begin has no result.
func TestAuditEndsBeforeItBegan(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r := &reader{}
	r.Table = keyed{&numbers{}}
	require.ErrorIs(t, audit(ctx, Options{}, &Report{}, r, &reader{}), context.Canceled)
}
