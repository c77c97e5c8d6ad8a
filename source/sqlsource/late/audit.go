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
	"github.com/artifactofdevotion/devotion/source/sqlsource"
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
	a := &audit{report: &r, table: &sqlsource.Table{
		DB: t.DB, Name: t.Name, Key: t.Key, Columns: t.Key, Where: t.Where, Ceiling: t.Ceiling,
		Dialect: t.Dialect, Start: sqlsource.Latest, Logger: slog.New(slog.DiscardHandler),
	}}
	rows := cmp.Or(o.Rows, DefaultRows)
	a.below, a.naive = newWatch(a.table, rows), newWatch(a.table, rows)
	err := a.run(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = nil
	}
	r.Below.Unchecked, r.Naive.Unchecked = a.below.window.unchecked, a.naive.window.unchecked
	r.End = time.Now()
	return r, err
}

// audit is an Audit at work.
type audit struct {
	table        *sqlsource.Table
	report       *Report
	below, naive *watch
	cursor       source.Cursor // of the reader below the ceiling
}

func (a *audit) run(ctx context.Context, o Options) error {
	end := time.Now().Add(cmp.Or(o.For, math.MaxInt64/4))
	tick := time.NewTicker(cmp.Or(o.Interval, 100*time.Millisecond))
	defer tick.Stop()
	for due := time.Now().Add(time.Second); ; {
		if err := a.poll(ctx); err != nil {
			return err
		}
		now := time.Now()
		last := !now.Before(end)
		if last || now.After(due) {
			due = now.Add(time.Second)
			if err := a.check(ctx); err != nil || last {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// poll lets both readers read the existing rows, unless writers are faster.
func (a *audit) poll(ctx context.Context) error {
	first := a.cursor == ""
	for range 100 {
		b, err := a.table.Fetch(ctx, a.cursor, pageKeys)
		if err != nil {
			return err
		}
		if b.Guarantee != nil {
			a.report.Ceiling, a.report.Guarantee = b.Guarantee.Name, b.Guarantee.Text
		}
		unnamed, err := a.below.passed(ctx, a.cursor, b.To, len(b.Records))
		if err != nil {
			return err
		}
		a.cursor = b.To
		a.report.Below.Rows += len(b.Records)
		a.report.Below.Late += unnamed
		if !b.More {
			break
		}
	}
	if first {
		begin, err := a.table.Adopt(a.cursor)
		a.naive.begin(begin)
		return err
	}
	for range 100 {
		at, _ := a.naive.window.bounds(len(a.naive.window.spans))
		keys, err := a.table.Keys(ctx, at, "", pageKeys)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			a.naive.window.add(keys, keys[len(keys)-1])
			a.naive.window.trim(a.naive.rows)
		}
		a.report.Naive.Rows += len(keys)
		if len(keys) < pageKeys {
			break
		}
	}
	return nil
}

// check checks every key that a reader remembers.
func (a *audit) check(ctx context.Context) error {
	for w, r := range map[*watch]*Reading{a.below: &a.report.Below, a.naive: &a.report.Naive} {
		late, _, err := w.check(ctx, math.MaxInt)
		if err != nil {
			return err
		}
		r.Late += len(late)
		for _, k := range late[:min(len(late), namedKeys-len(r.Keys))] {
			r.Keys = append(r.Keys, a.table.Position(k))
		}
	}
	return nil
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
