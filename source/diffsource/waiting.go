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
	queue      []difference           // the oldest first
	replaced   map[sqlsource.Key]bool // keys of the copy that were deleted in favour of another spelling
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
	respelled, err := w.respelled(ctx, some, now)
	if err != nil {
		return err
	}
	var reported []row.Change
	for _, d := range some {
		changes, err := w.judge(ctx, d, now[0][d.keys[0]], now[1][d.keys[1]], respelled)
		if err != nil {
			return err
		}
		reported = append(reported, changes...)
	}
	for _, change := range reported {
		if !w.yield(change) {
			return errStopped
		}
	}
	return nil
}

// judge compares the rows of a difference after they were read again. It returns the changes to report. With respelled
// the copy can have the row's key in another spelling.
func (w *waiting) judge(ctx context.Context, d difference, a, b *item, respelled bool) ([]row.Change, error) {
	c := w.comparison
	switch {
	case a == nil && (b == nil || w.replaced[d.keys[1]]):
		return nil, nil
	case a == unreadable || b == unreadable:
		c.report.Unreadable++
		return nil, nil
	case a != nil && b != nil:
		if equal, err := c.same(a.row, b.row); equal || err != nil {
			return nil, err
		}
	}
	if !d.note(a, b) {
		if d.reads++; d.reads < maxReads {
			d.since = time.Now()
			w.queue = append(w.queue, d)
		} else {
			c.report.Moving++
		}
		return nil, nil
	}
	if b == nil && respelled {
		old, err := w.otherSpelling(ctx, d.keys[1])
		if err != nil {
			return nil, err
		}
		if old != nil { // first the delete: the copy takes both keys for the same
			w.replaced[old.key] = true
			return []row.Change{c.change(nil, old), c.change(a, nil)}, nil
		}
	}
	return []row.Change{c.change(a, b)}, nil
}

// respelled reports whether the copy has another spelling of a key that it seems to lack.
func (w *waiting) respelled(ctx context.Context, some []difference, now [2]map[sqlsource.Key]*item) (bool, error) {
	var lacking []sqlsource.Key
	for _, d := range some {
		if k := d.keys[1]; now[0][d.keys[0]] != nil && now[1][k] == nil && !k.Ordered() {
			lacking = append(lacking, k)
		}
	}
	if lacking == nil {
		return false, nil
	}
	_, found, err := w.comparison.sides[1].keys.FetchRows(ctx, lacking)
	return len(found) > 0, err
}

// otherSpelling returns the copy's row whose key equals one in the copy's collation, as a and A can, if the source does not
// have that row, too.
func (w *waiting) otherSpelling(ctx context.Context, key sqlsource.Key) (*item, error) {
	sides := w.comparison.sides
	rows, spelled, err := sides[1].table.FetchRows(ctx, []sqlsource.Key{key})
	if err != nil || len(rows) != 1 || spelled[0] == key {
		return nil, err
	}
	_, both, err := sides[0].keys.FetchRows(ctx, spelled)
	if err != nil || slices.Contains(both, spelled[0]) {
		return nil, err
	}
	return &item{key: spelled[0], row: rows[0]}, nil
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
