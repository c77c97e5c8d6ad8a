package diffsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// DefaultSettle is used if Comparison.Settle is zero.
const DefaultSettle = time.Second

// Comparison compares a table or a view with a copy of it, which may be in another database. Source and
// Copy must be set. It only reads. A Comparison must not be used by two goroutines at once.
//
// Values are equal if they are the same value in both databases, however their types write it:
//
//   - Numbers are compared as decimals: 1.0 equals 1.00 and 1e0. True is 1, and false is 0.
//   - Times are points in time, and one without a zone is taken for UTC. A date is its midnight.
//   - JSON is compared without the order of members and without white space.
//   - A text equals a number, a time or JSON if it is one of the same value; the case of a UUID does
//     not count. Otherwise texts are equal if their bytes are: neither case nor trailing spaces are ignored.
//   - Binary data equals binary data of the same bytes, and never text.
//   - NULL equals NULL alone.
//
// Floats are compared by the shortest decimal that stands for them.
type Comparison struct {
	// Source and Copy are the tables. They must have the same columns, in any order: select them by Columns
	// or Select if they do not. Their keys must have the same columns in the same order. Ceiling, Start and
	// Conn must not be set.
	Source, Copy *sqlsource.Table

	// Settle is how long a difference must stand before it is reported: rows can change while they are
	// compared, and the copy can lag. 0 means DefaultSettle.
	Settle time.Duration

	sides   [2]*side
	report  Report
	columns [2]*row.Columns
	pairs   []int // for each column of the source, that of the copy
}

// Report has the findings of a Comparison.
type Report struct {
	Rows                    int64 // rows of the source
	Missing, Extra, Changed int64 // rows that only the source has, only the copy has, and both have with other values
	Moving                  int64 // rows that differed, and changed each time they were read again
	Unreadable              int64 // rows that are too large, or that the database cannot return: not compared
}

// Equal reports whether no difference was found, and every row was compared.
func (r Report) Equal() bool { return r == Report{Rows: r.Rows} }

// String returns the numbers in words.
func (r Report) String() string {
	return fmt.Sprintf("%d rows: %d missing, %d extra, %d changed, %d moving, %d unreadable", r.Rows, r.Missing, r.Extra, r.Changed, r.Moving, r.Unreadable)
}

// Run compares all rows and returns its findings.
func (c *Comparison) Run(ctx context.Context) (Report, error) {
	for _, err := range c.Changes(ctx) {
		if err != nil {
			return c.report, err
		}
	}
	return c.report, nil
}

// Changes returns the changes that make the copy equal to the source: an insert for each row that the copy
// lacks, an update for each that has other values, and a delete for each that only the copy has. Old is the
// copy's row. A key that the copy spells in another way, as a for A in a collation without case, is a delete and then
// an insert. It is a repair if a sink writes them. It retries nothing: an error ends the sequence. After
// an error, compare again. Report is complete when the sequence has ended.
func (c *Comparison) Changes(ctx context.Context) iter.Seq2[row.Change, error] {
	return func(yield func(row.Change, error) bool) {
		err := c.init()
		if err == nil {
			err = c.compare(ctx, func(change row.Change) bool { return yield(change, nil) })
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(row.Change{}, err)
		}
	}
}

// Report returns the findings of the last Run or Changes.
func (c *Comparison) Report() Report { return c.report }

// errStopped ends a comparison whose caller wants no more changes.
var errStopped = errors.New("stopped")

// side is one of the two tables.
type side struct {
	pager
	keys table // the table, without columns that can be large
}

func (c *Comparison) init() error {
	c.report, c.columns, c.pairs = Report{}, [2]*row.Columns{}, nil
	for i, t := range []*sqlsource.Table{c.Source, c.Copy} {
		switch {
		case t == nil:
			return retry.Permanent(errors.New("diffsource: Source or Copy is nil"))
		case t.Ceiling != nil || t.Start != "" || t.Conn != nil:
			return retry.Permanent(errors.New("diffsource: Ceiling, Start or Conn of Source or Copy is set: all rows are compared"))
		case len(t.Key) != len(c.Source.Key):
			return retry.Permanent(fmt.Errorf("diffsource: the key of %s has %d columns, that of %s has %d", c.Source.Name, len(c.Source.Key), t.Name, len(t.Key)))
		}
		c.sides[i] = &side{pager: pager{table: all(t), pageRows: usual.pageRows}, keys: keysOf(t)}
	}
	return nil
}

// compare walks both tables side by side if both databases have the keys in the same order. Otherwise it matches the
// pages of both that are read at the same time.
func (c *Comparison) compare(ctx context.Context, yield func(row.Change) bool) error {
	w := &waiting{comparison: c, settle: cmp.Or(c.Settle, DefaultSettle), yield: yield, replaced: map[sqlsource.Key]bool{}}
	ordered := true
	for _, s := range c.sides {
		if err := s.fillRows(ctx, 1); err != nil {
			return err
		}
		ordered = ordered && (len(s.rows) == 0 || s.rows[0].key.Ordered())
	}
	var err error
	if ordered {
		err = c.merge(ctx, w)
	} else {
		err = c.match(ctx, w)
	}
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

// merge compares rows whose keys are integers or bytes.
func (c *Comparison) merge(ctx context.Context, w *waiting) error {
	s, t := c.sides[0], c.sides[1]
	for {
		for _, side := range c.sides {
			if err := side.fillRows(ctx, 1); err != nil {
				return err
			}
		}
		if len(s.rows) == 0 && len(t.rows) == 0 {
			return nil
		}
		order := 0
		switch {
		case len(s.rows) == 0:
			order = 1
		case len(t.rows) == 0:
			order = -1
		default:
			var known bool
			if order, known = s.rows[0].key.Compare(t.rows[0].key); !known {
				return retry.Permanent(fmt.Errorf("diffsource: the keys of %s and %s have values of different types", c.Source.Name, c.Copy.Name))
			}
		}
		var a, b *item
		if order <= 0 {
			a, s.rows = &s.rows[0], s.rows[1:]
			c.report.Rows++
		}
		if order >= 0 {
			b, t.rows = &t.rows[0], t.rows[1:]
		}
		if err := w.pair(ctx, a, b); err != nil {
			return err
		}
	}
}

// sameKey reports whether rows of the two sides have the same key.
func (c *Comparison) sameKey(r, s row.Row) bool {
	for n, name := range c.Source.Key {
		i, j := r.Columns().Index(name), s.Columns().Index(c.Copy.Key[n])
		if i < 0 { // r is of the copy
			i, j = r.Columns().Index(c.Copy.Key[n]), s.Columns().Index(name)
		}
		if i < 0 || j < 0 || !sameValue(r, i, s, j) {
			return false
		}
	}
	return true
}

// same reports whether a row of the source and one of the copy have the same values.
func (c *Comparison) same(r, s row.Row) (bool, error) {
	if c.pairs == nil || c.columns != [2]*row.Columns{r.Columns(), s.Columns()} {
		if err := c.pairColumns(r.Columns(), s.Columns()); err != nil {
			return false, err
		}
	}
	for i, j := range c.pairs {
		if !sameValue(r, i, s, j) {
			return false, nil
		}
	}
	return true, nil
}

func (c *Comparison) pairColumns(r, s *row.Columns) error {
	var pairs []int
	for i := range r.Len() {
		j := s.Index(r.Name(i))
		if j < 0 {
			return retry.Permanent(fmt.Errorf("diffsource: %s has no column %q, which %s has: set Columns of both", c.Copy.Name, r.Name(i), c.Source.Name))
		}
		pairs = append(pairs, j)
	}
	if s.Len() > r.Len() {
		return retry.Permanent(fmt.Errorf("diffsource: %s has %d columns, and %s has %d: set Columns of both", c.Copy.Name, s.Len(), c.Source.Name, r.Len()))
	}
	c.columns, c.pairs = [2]*row.Columns{r, s}, pairs
	return nil
}
