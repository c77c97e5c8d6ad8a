package diffsource

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// waiting holds differences that must stand for a while before they are reported.
type waiting struct {
	comparison *Comparison
	settle     time.Duration
	yield      func(row.Change) bool
	queue      []difference // the oldest first
}

// difference is a pair of rows that differed when they were read.
type difference struct {
	keys  [2]sqlsource.Key // of the source's row and of the copy's, which are often the same
	seen  [2]digest        // of the rows; zero without a row
	since time.Time
	reads int
}

const (
	maxWaiting = 10_000 // differences that wait
	maxReads   = 5      // how often a row is read again that changes each time
)

// pair compares a row of the source with that of the copy. One of them may be nil.
func (w *waiting) pair(ctx context.Context, a, b *item) error {
	c := w.comparison
	if a != nil && a.bad != nil || b != nil && b.bad != nil {
		c.report.Unreadable++
		return nil
	}
	if a != nil && b != nil {
		if same, err := c.same(a.row, b.row); same || err != nil {
			return err
		}
	}
	d := difference{since: time.Now()}
	d.note(a, b)
	w.queue = append(w.queue, d)
	for len(w.queue) > 0 && (len(w.queue) > maxWaiting || len(w.queue) >= lookUpRows && time.Since(w.queue[0].since) >= w.settle) {
		if err := w.settleSome(ctx); err != nil {
			return err
		}
	}
	return nil
}

// note stores the digests of the two rows, and reports whether they are the same as before.
func (d *difference) note(a, b *item) (same bool) {
	var seen [2]digest
	for i, it := range []*item{a, b} {
		if it == nil {
			continue
		}
		sum := sha256.Sum256(it.row.AppendCells([]byte{1}))
		seen[i] = digest(sum[:len(digest{})])
		d.keys[i] = it.key
	}
	for i := range d.keys {
		if d.keys[i] == "" {
			d.keys[i] = d.keys[1-i]
		}
	}
	same = d.seen == seen
	d.seen = seen
	return same
}

// flush settles all differences.
func (w *waiting) flush(ctx context.Context) error {
	for len(w.queue) > 0 {
		if err := w.settleSome(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settleSome waits until the oldest differences have stood long enough, and reads their rows again.
func (w *waiting) settleSome(ctx context.Context) error {
	c := w.comparison
	n := min(len(w.queue), lookUpRows)
	some := w.queue[:n]
	w.queue = w.queue[n:]
	if err := wait(ctx, time.Until(some[n-1].since.Add(w.settle))); err != nil {
		return err
	}
	var now [2]map[sqlsource.Key]*item
	for i, s := range c.sides {
		var err error
		if now[i], err = s.read(ctx, some, i); err != nil {
			return err
		}
	}
	var reported []row.Change
	for _, d := range some {
		a, b := now[0][d.keys[0]], now[1][d.keys[1]]
		equal := a == nil && b == nil
		if a != nil && b != nil && a != unreadable && b != unreadable {
			var err error
			if equal, err = c.same(a.row, b.row); err != nil {
				return err
			}
		}
		if equal {
			continue
		}
		if a == unreadable || b == unreadable {
			c.report.Unreadable++
			continue
		}
		if !d.note(a, b) {
			if d.reads++; d.reads < maxReads {
				d.since = time.Now()
				w.queue = append(w.queue, d)
			} else {
				c.report.Moving++
			}
			continue
		}
		reported = append(reported, c.change(a, b))
	}
	for _, change := range reported {
		if !w.yield(change) {
			return errStopped
		}
	}
	return nil
}

// read returns the rows of one side for some differences, by their keys.
func (s *side) read(ctx context.Context, some []difference, i int) (map[sqlsource.Key]*item, error) {
	keys := make([]sqlsource.Key, len(some))
	for n, d := range some {
		keys[n] = d.keys[i]
	}
	rows, spelled, err := s.table.FetchRows(ctx, keys)
	if err != nil {
		return nil, err
	}
	found := map[sqlsource.Key]*item{}
	for n, r := range rows {
		found[spelled[n]] = &item{key: spelled[n], row: r}
	}
	absent := slices.DeleteFunc(keys, func(k sqlsource.Key) bool { return found[k] != nil })
	_, spelled, err = s.keys.FetchRows(ctx, absent)
	for _, k := range spelled {
		if found[k] == nil {
			found[k] = unreadable
		}
	}
	return found, err
}

// unreadable stands for a row that is too large.
var unreadable = &item{}

// change returns the change that makes the copy equal, and counts it.
func (c *Comparison) change(a, b *item) row.Change {
	change := row.Change{Table: c.Copy.Name}
	if b != nil {
		change.Old = b.row
		change.Key = pickKey(b.row, c.Copy.Key)
	}
	switch {
	case b == nil:
		change.Op, change.Row, change.Key = row.Insert, a.row, pickKey(a.row, c.Source.Key)
		c.report.Missing++
	case a == nil:
		change.Op = row.Delete
		c.report.Extra++
	default:
		change.Op, change.Row = row.Update, a.row
		c.report.Changed++
	}
	return change
}

// pickKey returns the key of a row, or the zero Row if it does not have all of its columns.
func pickKey(r row.Row, names []string) row.Row {
	index := make([]int, len(names))
	for i, name := range names {
		if index[i] = r.Columns().Index(name); index[i] < 0 {
			return row.Row{}
		}
	}
	return row.Pick([]row.Row{r}, index...)[0]
}
