package sqlsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// MaxPending is how many rows after a cursor Check counts.
const MaxPending = 10_000

// Check says whether rows can be missed and why, which statement is run, and how far the
// reading is. It contains keys of rows, and no other values.
type Check struct {
	Table  string // the source's name
	Cursor string // where the cursor stands, as Describe says

	Report   ceiling.Report    // what the ceiling guarantees, and its findings about the table
	Findings []ceiling.Finding // about the source itself: the cursor, the key, the plan

	// InsertsOnly is the key's column whose name says that each UPDATE sets it, such as updated_at,
	// if nothing that was checked does: then an UPDATE may not be read. Otherwise it is "".
	InsertsOnly string

	// Statement is the SELECT that a Fetch from the cursor runs, without the settings that it is
	// run with. Comments at its end show its arguments: keys, and limits.
	Statement string

	// Plan is the database's plan for Statement, which may be made as for a large table.
	Plan []string

	Newest string // the greatest key, "" if the table is empty or Pending is -1

	// Pending is how many rows follow the cursor, held back or not; MaxPending+1 stands
	// for any larger number. It is -1 if the cursor is not known,
	// or if counting would need more than an index scan or would take long.
	Pending int

	AsOf time.Time    // every row committed before it can be read; zero: not known
	Held *source.Held // who holds rows back; nil: nobody
}

// Safe reports whether no inserted row is missed and a Fetch can continue from the cursor. About
// updates see InsertsOnly.
func (c *Check) Safe() bool {
	return !c.Report.Lossy && !hasUnsafe(slices.Concat(c.Report.Findings, c.Findings))
}

func hasUnsafe(findings []ceiling.Finding) bool {
	return slices.ContainsFunc(findings, func(f ceiling.Finding) bool { return f.Level == ceiling.Unsafe })
}

// Check reports what a Fetch from the cursor would find. Problems of the table or the
// cursor are findings. An error means that the database could not be asked, or that the
// table does not exist. Check writes nothing and can run next to a pipeline. If another
// transaction has locked the whole table, it waits until ctx ends.
func (t *Table) Check(ctx context.Context, cursor source.Cursor) (*Check, error) {
	return check(ctx, t.query, cursor, t.open)
}

// Check reports what a Fetch from the cursor would find. See [Table.Check].
func (q *Query[T]) Check(ctx context.Context, cursor source.Cursor) (*Check, error) {
	return check(ctx, q.query, cursor, q.open)
}

type checker struct {
	*Check
	*state
	at    position
	known bool // at is what the cursor says
	below ceiling.Limit
	fix   string // what to do about a cursor of another history
}

func check[T any](ctx context.Context, of fields, cursor source.Cursor, open func(*plan, int) (records[T], error)) (*Check, error) {
	q, err := checked(of)
	if err != nil {
		return nil, err
	}
	q.log = slog.New(slog.DiscardHandler) // the Check itself contains it
	c := &checker{Check: &Check{Table: q.label, Cursor: q.describe(cursor), Pending: -1}, state: &state{query: q}, fix: adoptAdvice}
	q.usable = c.current
	c.reread = rereaderOf(c.state, open)
	fits := func(p *plan) error { // T fits the columns
		_, err := open(p, 1)
		return err
	}
	c.decode(cursor)
	err = c.ask(ctx, fits)
	if err != nil && c.at.key != nil && retry.Classify(err) == retry.Fatal {
		// It continues without the cursor's key, which may be to blame.
		c.Findings = nil
		c.add(ceiling.Unsafe, rewindAdvice, "%s", c.bare(err))
		c.at.key, c.known = nil, false
		err = c.ask(ctx, fits)
	}
	if err != nil {
		return nil, err
	}
	return c.Check, nil
}

func (c *checker) ask(ctx context.Context, fits func(*plan) error) error {
	found := c.Findings
	err := c.withPlan(ctx, func(db ceiling.Queryer) error {
		c.Findings = slices.Clip(found)
		if err := fits(c.plan); err != nil {
			return err
		}
		if err := c.findCeiling(ctx, db); err != nil {
			return err
		}
		return c.compareHistory(ctx, db)
	})
	if err != nil {
		return err
	}
	// No connection is held here: the pool may have only one.
	indexed, err := c.explain(ctx)
	if err == nil && indexed {
		err = c.count(ctx)
	}
	return err
}

func (c *checker) add(level ceiling.Level, fix, format string, args ...any) {
	f := ceiling.Finding{Level: level, Text: fmt.Sprintf(format, args...)}
	if fix != "" {
		f.Remedies = ceiling.Advice(fix)
	}
	c.Findings = append(c.Findings, f)
}

// bare is the text of an error without the names that the Check begins with.
func (c *checker) bare(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(retry.Text(err), "sqlsource: "), c.query.label+": ")
}

// decode decodes the cursor. Without one that fits, the Check continues with a finding.
func (c *checker) decode(cursor source.Cursor) {
	var err error
	if c.at, err = c.query.position(cursor); err != nil {
		c.Cursor = "not one of this table, key and condition"
		if key, _, err := decode(cursor, "", len(c.query.key)); err == nil && key != nil {
			c.Cursor += ": after " + describeKey(c.query.key, key)
		}
		c.add(ceiling.Unsafe, "", "%s", c.bare(err))
		return
	}
	if c.at.origin.refused != "" {
		c.add(ceiling.Unsafe, "", "%s", c.at.origin.refused)
	}
	if c.at.edited {
		c.add(ceiling.Warning, rewindAdvice, "another select or condition made the cursor: rows up to it are not read again")
	}
	from := cmp.Or(cursor, c.query.start)
	c.known = from != Latest
	if c.known && from != "" && !c.at.origin.known() {
		c.add(ceiling.Note, "", "the cursor does not contain the database's history: it was made from a key, or adopted; the cursors of the next batches will")
	}
}

// findCeiling opens a new guard, asks it once, and looks for NULL in the key.
func (c *checker) findCeiling(ctx context.Context, db ceiling.Queryer) error {
	limit, err := c.limit(ctx, db, c.at.key)
	var unsafe *ceiling.UnsafeError
	var rewound *ceiling.RewoundError
	switch {
	case errors.As(err, &unsafe):
		c.Report = unsafe.Report
		return nil
	case errors.As(err, &rewound):
		c.fix = rewindAdvice // adopting the cursor would lose rows
		c.add(ceiling.Unsafe, rewindAdvice, "%v: %s", ErrHistory, rewound.What)
	case err != nil:
		return err
	}
	c.Report, c.AsOf, c.Held, c.below = c.report(), limit.AsOf, limit.Held, limit
	c.InsertsOnly = c.unreadUpdates(c.Report)
	if limit.Where == "" && limit.Nothing { // a ceiling need not set a condition if there is nothing to read
		if all, err := c.limit(ctx, db, nil); err == nil {
			c.below = all
		}
	}
	if err := c.query.findNull(ctx, db, c.plan, 0, nil); retry.Classify(err) == retry.Fatal {
		c.add(ceiling.Unsafe, "", "%s", c.bare(err))
	} else if err != nil {
		return err
	}
	for _, k := range c.plan.key {
		if k.Nullable {
			c.add(ceiling.Note, "", "%q can be NULL: a row with NULL there would be an error", k.Name)
		}
	}
	return nil
}

// compareHistory compares the database's history with the cursor's, and the delivered rows with the table.
func (c *checker) compareHistory(ctx context.Context, db ceiling.Queryer) error {
	if err := c.readMarks(ctx, db); err != nil {
		return err
	}
	h, err := c.history(ctx, db, c.below.Sequence)
	if err != nil {
		return err
	}
	e, _, err := c.compare(ctx, db, c.at)
	if err != nil {
		return err
	}
	var parts []string
	for _, p := range h.Parts[:len(h.Parts)-1] { // the sequence means something to the source only
		if p.Value != "" {
			parts = append(parts, p.Name+" "+p.Value)
		}
	}
	what, _ := c.changes(c.at.origin, h.Boot)
	switch err := c.at.origin.follows(h); {
	case errors.Is(err, errBehind):
		c.add(ceiling.Note, "", "%v", err)
	case err != nil && e.proves() && c.undrawn():
		c.add(ceiling.Warning, undrawnAdvice, "%v; the delivered rows are there: %v", err, e)
	case err != nil && e.proves():
		c.add(ceiling.Note, "", "%v; nevertheless it continues, as the delivered rows are there: %v", err, e)
	case err != nil:
		c.add(ceiling.Unsafe, c.fix, "%v: %v; %v", ErrHistory, err, e)
	case what != "" && e.disproves():
		c.add(ceiling.Unsafe, c.fix, "%v: the rows that were delivered were replaced by others (%s); %v", ErrHistory, what, e)
	case e.suspect(what):
		c.add(ceiling.Warning, refilledAdvice, "delivered rows changed, and may have been replaced: %v", e)
	case len(parts) == 0 && c.at.origin.anchors == nil:
		c.add(ceiling.Note, "", "nothing distinguishes this database from another one, or from an older state of itself: a cursor from there would be accepted")
	case len(parts) == 0:
		c.add(ceiling.OK, "", "the cursor belongs to this database's history (%v)", e)
	case c.at.origin.known():
		c.add(ceiling.OK, "", "the cursor belongs to this database's history (%s)", strings.Join(parts, ", "))
	}
	return nil
}

// explain writes the statement and asks for its plan. It reports whether the statement is
// known to use an index.
func (c *checker) explain(ctx context.Context) (indexed bool, err error) {
	statement, args, err := c.query.statement(c.plan, c.plan.list, keyRange{after: c.at.key, below: c.below, plain: true, limit: firstLimit + 1})
	if err != nil {
		return false, err
	}
	f := ceiling.Finding{Level: ceiling.Note, Text: "the plan is not shown: asking for it would end the transaction of Conn"}
	if c.query.conn == nil {
		err = c.query.withConn(ctx, func(db ceiling.Queryer) error {
			c.Plan, f, err = c.query.sql.Explain(ctx, db, statement, args, c.at.key != nil)
			return err
		})
	}
	switch {
	case err != nil && retry.Classify(err) == retry.Setup && ctx.Err() == nil:
		f = ceiling.Finding{Level: ceiling.Warning, Text: "the database does not show how it reads the rows: " + retry.Text(err)}
	case err != nil:
		return false, c.query.wrap(fmt.Errorf("asking for the plan: %w", err), c.at.key)
	case f.Text == "":
		f = ceiling.Finding{Level: ceiling.OK, Text: "the rows are read by an index, in its order"}
	}
	c.Statement = statement
	for i, a := range args {
		format := "%v"
		switch a.(type) {
		case []byte:
			format = "0x%x"
		case string:
			format = "%q"
		}
		c.Statement += fmt.Sprintf("\n-- argument %d: "+format, i+1, a)
	}
	c.Findings = append(c.Findings, f)
	return f.Level == ceiling.OK || f.Level == ceiling.Note, nil
}

// count finds the greatest key and counts the rows after the cursor. Where few rows meet a
// condition, many are read, so it takes at most 5 s, or half of the time that ctx leaves.
func (c *checker) count(ctx context.Context) error {
	limit := 5 * time.Second
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := c.withPlan(short, func(db ceiling.Queryer) error { return c.pending(short, db) })
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		c.Newest, c.Pending = "", -1
		c.add(ceiling.Note, "", "the rows after the cursor were not counted: it would have taken longer than %v", limit.Round(time.Millisecond))
		return nil
	}
	return err
}

func (c *checker) pending(ctx context.Context, db ceiling.Queryer) error {
	newest, err := c.query.end(ctx, db, c.plan, true)
	if err != nil {
		return err
	}
	if newest != nil {
		c.Newest = describeKey(c.query.key, newest)
	}
	if !c.known {
		return nil
	}
	statement, args, err := c.query.statement(c.plan, "1 AS one", keyRange{after: c.at.key, limit: MaxPending + 1})
	if err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, c.query.settings().Before+"SELECT count(*) FROM ("+statement+") AS n", args...).Scan(&c.Pending); err != nil {
		return c.query.wrap(fmt.Errorf("counting the rows after the cursor: %w", err), c.at.key)
	}
	return nil
}
