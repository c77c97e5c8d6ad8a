package sqlsource

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// AuditOptions say how long and how closely [Audit] watches.
type AuditOptions struct {
	For      time.Duration // 0: until the context ends
	Interval time.Duration // between polls. 0 means 100 ms
	Behind   int           // how many rows behind the last one to begin
	Rows     int           // as Auditor.Rows
}

// AuditReport is what [Audit] saw. Ceiling is how the table was read below its
// ceiling, Naive how a reader fared meanwhile that asks for all keys greater than
// the last one it saw, at the same moments.
type AuditReport struct {
	Table     string // the table's name
	Strategy  string // of the ceiling
	Guarantee string // as the ceiling states it
	Start     time.Time
	End       time.Time
	Ceiling   Reading
	Naive     Reading
}

// Reading is how one reader fared.
type Reading struct {
	Rows   int           // rows read
	Late   int           // rows that appeared behind the cursor: missed
	Unseen int           // rows that so many others followed that nobody looked behind them: raise AuditOptions.Rows
	Keys   [][]string    // the keys of the first ten of them, as in Late
	Worst  time.Duration // the longest that a row was found after the cursor had passed it, at most a second too long
	Behind int           // the most rows that the cursor was ahead of one
}

// auditKeys is how many keys a Reading names.
const auditKeys = 10

// Audit tells whether rows of a table appear behind a reader's cursor. It follows
// the table from its last row on, below its ceiling, delivers nothing, writes
// nothing, and looks again and again for rows behind the cursor. It reads the key
// only. Beside it goes a reader without a ceiling, to show what that would miss.
//
// No late row below the ceiling proves that the ceiling held, for the writers that
// were at work meanwhile. It proves nothing of a job that runs at night.
//
// The table's Audit, Start and Columns are of no account, and its own cursors and
// state are left alone. Audit returns when o.For is over, or when ctx ends, with
// what it saw until then and no error. An error ends it, with what it saw before;
// nothing is retried. A table whose safety cannot be seen has to be read by name,
// with the Ceiling that it is read with otherwise, or ceiling.None{}.
func Audit(ctx context.Context, t *Table, o AuditOptions) (AuditReport, error) {
	r := AuditReport{Table: t.Name, Start: time.Now()}
	if o.For < 0 || o.Interval < 0 || o.Behind < 0 || o.Rows < 0 {
		return r, permanent("Audit: For, Interval, Behind or Rows is negative")
	}
	above, err := newFollower(t, o, t.Ceiling)
	if err != nil {
		return r, err
	}
	naive, err := newFollower(t, o, ceiling.None{})
	if err != nil {
		return r, err
	}
	err = auditFor(ctx, o, above, naive)
	if err != nil && ctx.Err() != nil {
		err = nil
	}
	above.seen.Unseen, naive.seen.Unseen = above.state.audit.unseen, naive.state.audit.unseen
	r.End, r.Ceiling, r.Naive = time.Now(), above.seen, naive.seen
	r.Strategy = "auto"
	if c := above.query.ceiling; c != nil {
		r.Strategy = c.String()
	}
	if above.guard != nil {
		found := above.guard.Report()
		r.Strategy, r.Guarantee = found.Strategy, found.Guarantee
	}
	return r, err
}

func auditFor(ctx context.Context, o AuditOptions, all ...*follower) error {
	var start source.Cursor
	err := all[0].query.onConn(ctx, func(db ceiling.Queryer) (err error) {
		start, err = all[0].begin(ctx, db, o.Behind)
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range all {
		f.cursor = start
	}
	end := time.Now().Add(cmp.Or(o.For, math.MaxInt64/4))
	tick := time.NewTicker(cmp.Or(o.Interval, 100*time.Millisecond))
	defer tick.Stop()
	for time.Now().Before(end) {
		for _, f := range all {
			if err := f.poll(ctx); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, f := range all {
		if err := f.finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// follower follows a table as a pipeline would, and has its audit kept.
type follower struct {
	state
	cursor source.Cursor
	seen   Reading
}

func newFollower(t *Table, o AuditOptions, c ceiling.Ceiling) (*follower, error) {
	f := &follower{}
	q, err := checked(t.query)
	if err != nil {
		return nil, err
	}
	q.columns, q.start, q.maxBytes = q.key, "", DefaultMaxBytes
	q.ceiling = c
	q.log = slog.New(slog.DiscardHandler) // all is in the report
	f.query = q
	f.state.audit = newAudit(Auditor{Rows: o.Rows, Every: time.Second, Late: f.late})
	f.state.audit.ahead = true
	return f, nil
}

// begin returns the cursor to begin at: rows that are there but not settled are
// then followed as any other, if behind reaches as far.
func (f *follower) begin(ctx context.Context, db ceiling.Queryer, behind int) (source.Cursor, error) {
	if err := f.ready(ctx, db); err != nil {
		return "", err
	}
	var key []value
	n := 0
	err := f.query.eachKey(ctx, db, f.plan, keyRange{falling: true, limit: behind + 1}, func(k *keys) {
		if n++; n > behind {
			key = k.lastValues()
		}
	})
	if err != nil {
		return "", err
	}
	return encode(f.query.print, past{}, key)
}

func (f *follower) late(_ context.Context, l Late) {
	f.seen.Late += len(l.Keys)
	f.seen.Worst = max(f.seen.Worst, l.Noticed.Sub(l.Passed))
	f.seen.Behind = max(f.seen.Behind, l.Behind)
	f.seen.Keys = append(f.seen.Keys, l.Keys[:min(len(l.Keys), auditKeys-len(f.seen.Keys))]...)
}

// poll reads what is there, unless writers are faster.
func (f *follower) poll(ctx context.Context) error {
	for range 100 {
		b, err := fetch(ctx, &f.state, f.cursor, firstLimit, func(p *plan, limit int) (records[row.Row], error) {
			return rowRecords{row.NewBuilder(p.row, limit+1)}, nil
		})
		if err != nil {
			return err
		}
		f.seen.Rows += len(b.Records)
		f.cursor = b.To
		if !b.More {
			return nil
		}
	}
	return nil
}

// finish looks once more at all of the window.
func (f *follower) finish(ctx context.Context) error {
	a := f.state.audit
	for from := a.pass; ; {
		a.due = time.Time{} // now
		if err := f.poll(ctx); err != nil {
			return err
		}
		if a.pass > from && a.window.next == 0 {
			return nil
		}
	}
}

// String says what was seen, in a few lines for a human.
func (r AuditReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %v from %s\n", r.Table, r.End.Sub(r.Start).Round(time.Second), r.Start.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "below the ceiling (%s): %s\n", r.Strategy, r.Ceiling)
	fmt.Fprintf(&b, "key > cursor, without one: %s\n", r.Naive)
	switch {
	case r.Ceiling.Late > 0:
		fmt.Fprintf(&b, "The ceiling did not hold: writers add rows in a way that it does not see, such as keys given by hand. Rows are missed.")
	case r.Ceiling.Unseen > 0:
		fmt.Fprintf(&b, "Rows came faster than was looked behind them: this shows nothing of %d of them. Let it remember more.", r.Ceiling.Unseen)
	case r.Ceiling.Rows == 0 && r.Naive.Rows > 0:
		fmt.Fprintf(&b, "All rows were held back, by transactions that did not end in this time: this shows nothing.")
	case r.Ceiling.Rows == 0:
		fmt.Fprintf(&b, "No row was added: this shows nothing.")
	case r.Naive.Late > 0:
		fmt.Fprintf(&b, "The ceiling held, for the writers at work in this time, where a reader without one missed rows.")
	default:
		fmt.Fprintf(&b, "The ceiling held, for the writers at work in this time; none of them put it to the test.")
	}
	return b.String()
}

func (r Reading) String() string {
	s := fmt.Sprintf("%d rows, %d of them late", r.Rows, r.Late)
	if r.Late == 0 {
		return s
	}
	var keys []string
	for _, k := range r.Keys {
		keys = append(keys, strings.Join(k, "/"))
	}
	return fmt.Sprintf("%s, by up to %v or %d rows; the first: %s", s, r.Worst.Round(time.Millisecond), r.Behind, strings.Join(keys, ", "))
}
