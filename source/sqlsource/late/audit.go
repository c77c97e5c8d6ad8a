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
	Table      string // the table's name
	Ceiling    string // the name of the ceiling
	Guarantee  string // what the ceiling guarantees
	Start, End time.Time

	Below Reading // of the reader that stays below the ceiling
	Naive Reading // of the reader that asks for all keys greater than the last one it saw
}

// Audit tells whether rows of a table appear below a reader's cursor. It begins after the last
// existing row, reads keys only, and writes and delivers nothing. One reader stays below the
// table's ceiling; a second one polls at the same moments without a ceiling, to show what that
// would miss. A result without late rows holds for the writers that were at work during the
// audit, and says nothing about a job that runs at night.
//
// The audit ends when o.For is over or ctx ends. Then it reads all remembered keys once more,
// for at most 30 s, and returns its report without an error. An error ends it early, also one
// of ctx during the first statement. Nothing is retried, and the report then covers the rows
// checked so far. Audit reads the fields of t and does not fetch from t.
func Audit(ctx context.Context, t *sqlsource.Table, o Options) (Report, error) {
	r := Report{Table: t.Name, Start: time.Now()}
	if o.For < 0 || o.Interval < 0 || o.Rows < 0 {
		return r, retry.Permanent(errors.New("late: Options: For, Interval or Rows is negative"))
	}
	below, naive := newReader(t, t.Ceiling, o), newReader(t, ceiling.None{}, o)
	err := audit(ctx, o, &r, below, naive)
	r.Below, r.Naive, r.End = below.result(), naive.result(), time.Now()
	return r, err
}

func audit(ctx context.Context, o Options, r *Report, below, naive *reader) error {
	b, err := below.Table.Fetch(ctx, "", pageKeys) // of Start: Latest
	if err != nil {
		return err
	}
	r.Ceiling, r.Guarantee = b.Guarantee.Name, b.Guarantee.Text
	below.cursor, naive.cursor = b.To, b.To
	over := time.After(cmp.Or(o.For, math.MaxInt64))
	tick := time.NewTicker(cmp.Or(o.Interval, 100*time.Millisecond))
	defer tick.Stop()
	for ended := false; !ended; {
		for _, reader := range []*reader{below, naive} {
			if err := reader.poll(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-over:
			ended = true
		case <-ctx.Done():
			ended = true
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for _, reader := range []*reader{below, naive} {
		if err := reader.finish(ctx); err != nil {
			return fmt.Errorf("late: the last check: %w", err)
		}
	}
	return nil
}

// reader follows a table as a pipeline would.
type reader struct {
	Source[row.Row]
	cursor source.Cursor
}

func newReader(t *sqlsource.Table, c ceiling.Ceiling, o Options) *reader {
	r := &reader{}
	r.Logger, r.Rows, r.Every = slog.New(slog.DiscardHandler), o.Rows, time.Second
	r.Table = &sqlsource.Table{DB: t.DB, Name: t.Name, Key: t.Key, Columns: t.Key, Where: t.Where, Select: t.Select, Ceiling: c,
		Dialect: t.Dialect, Start: sqlsource.Latest, Logger: r.Logger}
	return r
}

// result returns how the reader has fared. Keys that were never read again are unchecked.
func (r *reader) result() Reading {
	for _, span := range r.watch.spans {
		if !span.checked {
			r.seen.Unchecked += len(span.keys)
		}
	}
	return r.seen
}

// poll reads the existing rows, unless writers are faster.
func (r *reader) poll(ctx context.Context) error {
	for more, n := true, 0; more && n < 100; n++ {
		b, err := r.Table.Fetch(ctx, r.cursor, pageKeys)
		if err != nil {
			return err
		}
		if err := r.observe(ctx, b); err != nil {
			return err
		}
		r.cursor, more = b.To, b.More
	}
	return nil
}

// finish checks every key that is remembered.
func (r *reader) finish(ctx context.Context) error {
	r.watch.next = 0
	return r.check(ctx, math.MaxInt, 0)
}

// String returns the result in a few lines.
func (r Report) String() string {
	conclusion := "The ceiling held for the writers at work in this time. None of them put it to the test."
	switch {
	case r.Below.Late > 0:
		conclusion = "The ceiling did not hold: writers add rows in a way that it cannot see, such as keys set by hand. Rows are missed."
	case r.Below.Unchecked > 0:
		conclusion = fmt.Sprintf("Rows were added faster than they could be checked, or the audit ended early: this shows nothing about %d of them. Remember more rows.", r.Below.Unchecked)
	case r.Below.Rows == 0 && r.Naive.Rows > 0:
		conclusion = "All rows were held back by transactions that did not end in this time: this shows nothing."
	case r.Below.Rows == 0:
		conclusion = "No row was added: this shows nothing."
	case r.Naive.Late > 0:
		conclusion = "The ceiling held for the writers at work in this time. A reader without a ceiling missed rows."
	}
	return fmt.Sprintf("%s, %v from %s\nbelow the ceiling (%s): %s\nkey > cursor, without a ceiling: %s\n%s", r.Table,
		r.End.Sub(r.Start).Round(time.Second), r.Start.UTC().Format(time.RFC3339), r.Ceiling, r.Below, r.Naive, conclusion)
}

// String returns the counts of a reader, such as "73490 rows read, 2 late: id 17, id 19".
func (r Reading) String() string {
	s := fmt.Sprintf("%d rows read, %d late", r.Rows, r.Late)
	if len(r.Keys) > 0 {
		s += ": " + strings.Join(r.Keys, ", ")
	}
	return s
}
