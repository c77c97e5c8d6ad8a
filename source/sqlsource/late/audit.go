package late

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Options say how long and how closely [Audit] watches.
type Options struct {
	For      time.Duration // 0 means until the context ends
	Interval time.Duration // between polls; 0 means 100 ms
	Rows     int           // how many keys to remember; 0 means DefaultRows
}

// Report is the result of [Audit].
type Report struct {
	Table     string // the table's name
	Ceiling   string // the name of the ceiling
	Guarantee string // what the ceiling guarantees
	Start     time.Time
	End       time.Time

	Below Reading // of the reader that stays below the ceiling
	Naive Reading // of the reader that asks for all keys greater than the last one it saw
}

// Reading is how one reader fared.
type Reading struct {
	Rows      int      // rows read
	Late      int      // rows that appeared below the cursor: this reader missed them
	Unchecked int64    // rows that were forgotten before they were checked: raise Options.Rows
	Keys      []string // the keys of the first ten late rows, such as "id 42"
}

// namedKeys is how many late rows a Reading names.
const namedKeys = 10

// Audit tells whether rows of a table appear below a reader's cursor. It begins
// after the last existing row, reads keys only, and writes and delivers nothing.
// One reader stays below the table's ceiling; a second one polls at the same
// moments without a ceiling, to show what that would miss.
//
// No late row below the ceiling shows that the ceiling held for the writers that
// were at work during the audit. It says nothing about a job that runs at night.
//
// Audit returns its report without an error when o.For is over or ctx ends.
// Any other error ends it; nothing is retried. It reads the fields of t and does
// not fetch from t.
func Audit(ctx context.Context, t *sqlsource.Table, o Options) (Report, error) {
	r := Report{Table: t.Name, Start: time.Now()}
	if o.For < 0 || o.Interval < 0 || o.Rows < 0 {
		return r, retry.Permanent(errors.New("late: Options: For, Interval or Rows is negative"))
	}
	below, naive := newReader(t, t.Ceiling, o, &r.Below), newReader(t, ceiling.None{}, o, &r.Naive)
	err := audit(ctx, o, &r, below, naive)
	if err != nil && ctx.Err() != nil {
		err = nil
	}
	r.Below.Unchecked, r.Naive.Unchecked = below.Stats().Unchecked, naive.Stats().Unchecked
	r.End = time.Now()
	return r, err
}

func audit(ctx context.Context, o Options, r *Report, below, naive *reader) error {
	b, err := below.Table.Fetch(ctx, "", pageKeys) // of Start: Latest
	if err != nil {
		return err
	}
	r.Ceiling, r.Guarantee = b.Guarantee.Name, b.Guarantee.Text
	below.cursor, naive.cursor = b.To, b.To
	end := time.Now().Add(cmp.Or(o.For, math.MaxInt64/4))
	tick := time.NewTicker(cmp.Or(o.Interval, 100*time.Millisecond))
	defer tick.Stop()
	for last := false; !last; {
		last = !time.Now().Before(end)
		for _, reader := range []*reader{below, naive} {
			if err := reader.poll(ctx, last); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// reader follows a table as a pipeline would.
type reader struct {
	*Source[row.Row]
	cursor source.Cursor
	seen   *Reading
}

func newReader(t *sqlsource.Table, c ceiling.Ceiling, o Options, seen *Reading) *reader {
	table := &sqlsource.Table{DB: t.DB, Name: t.Name, Key: t.Key, Columns: t.Key, Where: t.Where, Ceiling: c,
		Dialect: t.Dialect, Start: sqlsource.Latest, Logger: slog.New(slog.DiscardHandler)}
	report := func(_ context.Context, f Found) {
		seen.Late = int(f.Total)
		for _, k := range f.Keys[:min(len(f.Keys), namedKeys-len(seen.Keys))] {
			seen.Keys = append(seen.Keys, table.Position(k))
		}
	}
	return &reader{Source: &Source[row.Row]{Table: table, Rows: o.Rows, Every: time.Second, Report: report, Logger: table.Logger}, seen: seen}
}

// poll reads the existing rows, unless writers are faster. The last poll checks
// every key that is remembered.
func (r *reader) poll(ctx context.Context, last bool) error {
	for range 100 {
		b, err := r.Table.Fetch(ctx, r.cursor, pageKeys)
		if err != nil {
			return err
		}
		if err := r.observe(ctx, b.From, b.To, len(b.Records)); err != nil {
			return err
		}
		r.cursor = b.To
		r.seen.Rows += len(b.Records)
		if !b.More {
			break
		}
	}
	if !last {
		return nil
	}
	r.watch.window.next = 0
	keys, _, err := r.watch.check(ctx, math.MaxInt)
	r.report(ctx, 0, keys)
	return err
}

// String returns the result in a few lines.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %v from %s\n", r.Table, r.End.Sub(r.Start).Round(time.Second), r.Start.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "below the ceiling (%s): %s\n", r.Ceiling, r.Below)
	fmt.Fprintf(&b, "key > cursor, without a ceiling: %s\n", r.Naive)
	switch {
	case r.Below.Late > 0:
		b.WriteString("The ceiling did not hold: writers add rows in a way that it cannot see, such as keys set by hand. Rows are missed.")
	case r.Below.Unchecked > 0:
		fmt.Fprintf(&b, "Rows were added faster than they could be checked: this shows nothing about %d of them. Remember more rows.", r.Below.Unchecked)
	case r.Below.Rows == 0 && r.Naive.Rows > 0:
		b.WriteString("All rows were held back by transactions that did not end in this time: this shows nothing.")
	case r.Below.Rows == 0:
		b.WriteString("No row was added: this shows nothing.")
	case r.Naive.Late > 0:
		b.WriteString("The ceiling held for the writers at work in this time. A reader without a ceiling missed rows.")
	default:
		b.WriteString("The ceiling held for the writers at work in this time. None of them put it to the test.")
	}
	return b.String()
}

// String returns the counts of a reader, such as "73490 rows read, 2 late: id 17, id 19".
func (r Reading) String() string {
	s := fmt.Sprintf("%d rows read, %d late", r.Rows, r.Late)
	if len(r.Keys) > 0 {
		s += ": " + strings.Join(r.Keys, ", ")
	}
	return s
}
