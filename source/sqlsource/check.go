package sqlsource

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// MaxPending is how many rows behind a cursor Check counts.
const MaxPending = 10_000

// Check is what Check found out: whether rows can be missed, and why, what will
// be run, and how far the reading is. Of the rows themselves it has keys, and
// nothing else.
type Check struct {
	Table  string // the source's name
	Cursor string // where the cursor stands, as Describe says

	// Report is what the ceiling guarantees and what it looked at. Findings are
	// those of the source itself: the cursor, the key, the plan.
	Report   ceiling.Report
	Findings []ceiling.Finding

	// Statement is what a Fetch from the cursor runs, and Args are its arguments,
	// for a human: keys, and what the ceiling compares with. Plan is how the
	// database goes about it; that of Postgres is made as for a large table.
	Statement string
	Args      []string
	Plan      []string

	// Newest is the greatest key, "" if there is no row. Pending is how many rows
	// are behind the cursor, held back or not; more than MaxPending are counted as
	// one more. It is -1 if the cursor stands nowhere yet. If to look would cost more
	// than reading an index, or take long, it is -1, and Newest is "".
	Newest  string
	Pending int

	// AsOf and Held are what the ceiling said, as in source.Batch: every row
	// committed before AsOf can be read, and who holds rows back.
	AsOf time.Time
	Held *source.Held
}

// Safe reports whether no row is missed, and a Fetch can go on from the cursor.
func (c *Check) Safe() bool { return !c.Report.Lossy && !c.unsafe() }

func (c *Check) unsafe() bool { return hasUnsafe(c.Findings) || hasUnsafe(c.Report.Findings) }

func hasUnsafe(findings []ceiling.Finding) bool {
	for _, f := range findings {
		if f.Level == ceiling.Unsafe {
			return true
		}
	}
	return false
}

// Check looks at the database as a Fetch from the cursor would, and tells what it
// finds: the ceiling's probes, what is guaranteed, the statement and its plan,
// what is pending, who holds rows back, and whether the cursor is of the
// database that is there. What is wrong with the table or the cursor is in the
// Check; the error is that of a database that cannot be asked, or of a table that
// is not there. It writes nothing, and does not disturb a Fetch that runs. A table
// that another transaction has locked altogether makes it wait until ctx ends.
func (t *Table) Check(ctx context.Context, cursor source.Cursor) (*Check, error) {
	q, err := checked(t.query)
	if err != nil {
		return nil, err
	}
	return q.check(ctx, cursor, func(*plan) error { return nil })
}

// Check looks at the database as a Fetch would. See [Table.Check].
func (q *Query[T]) Check(ctx context.Context, cursor source.Cursor) (*Check, error) {
	i, err := checked(q.query)
	if err != nil {
		return nil, err
	}
	return i.check(ctx, cursor, func(p *plan) error {
		_, err := q.binding(p)
		return err
	})
}

// checker is a Check being made.
type checker struct {
	*query
	*Check
	plan  *plan
	at    position
	known bool // at is what the cursor says
	below ceiling.Limit
}

func (q *query) check(ctx context.Context, cursor source.Cursor, fits func(*plan) error) (*Check, error) {
	q.log = slog.New(slog.DiscardHandler) // the Check itself says it
	c, err := q.probe(ctx, cursor, fits)
	if err != nil && q.sql.ColumnsChanged(err) { // a connection had the statement prepared for other columns
		c, err = q.probe(ctx, cursor, fits)
	}
	if err != nil {
		return nil, err
	}
	// Without a connection held, of which there may be only one.
	indexed, err := c.statement(ctx)
	if err == nil && indexed {
		err = c.count(ctx)
	}
	return c.Check, err
}

// probe asks the database for all but the plan.
func (q *query) probe(ctx context.Context, cursor source.Cursor, fits func(*plan) error) (*checker, error) {
	c := &checker{query: q, Check: &Check{Table: q.label, Cursor: q.describe(cursor), Pending: -1}}
	c.decode(cursor)
	return c, q.withConn(ctx, func(db ceiling.Queryer) (err error) {
		if err = q.sql.CheckSession(ctx, db); err != nil {
			return q.wrap(err, nil)
		}
		if c.plan, err = q.makePlan(ctx, db, 0); err != nil {
			return err
		}
		if err := fits(c.plan); err != nil {
			return err
		}
		if err := c.findCeiling(ctx, db); err != nil {
			return err
		}
		return c.compareHistory(ctx, db)
	})
}

// countLimit is how long pending may take, or half of what is left to ctx if
// that is less: a condition that few rows meet has many be read.
const countLimit = 5 * time.Second

func (c *checker) count(ctx context.Context) error {
	limit := countLimit
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := c.withConn(short, func(db ceiling.Queryer) error { return c.pending(short, db) })
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		c.Newest, c.Pending = "", -1
		c.add(ceiling.Note, "", "the rows behind the cursor were not counted: it would have taken longer than %v", limit.Round(time.Millisecond))
		return nil
	}
	return err
}

// add adds a finding of the source's own.
func (c *checker) add(level ceiling.Level, fix, format string, args ...any) {
	f := ceiling.Finding{Level: level, Text: fmt.Sprintf(format, args...)}
	if fix != "" {
		f.Remedies = ceiling.Advice(fix)
	}
	c.Findings = append(c.Findings, f)
}

// bare is the text of an error without the names that the Check begins with.
func (c *checker) bare(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(retry.Text(err), "sqlsource: "), c.label+": ")
}

// decode takes the cursor apart. One that does not fit is a finding, and the rest
// is found out as for none.
func (c *checker) decode(cursor source.Cursor) {
	if cursor == "" && c.start != Latest {
		cursor = c.start
	}
	if cursor == "" {
		c.known = c.start != Latest
		return
	}
	var err error
	if c.at.key, c.at.origin, err = decode(cursor, c.print, len(c.key)); err != nil {
		c.Cursor = "not one of this table, key and condition"
		if key, _, err := decode(cursor, "", len(c.key)); err == nil && key != nil {
			c.Cursor += ": after " + describeKey(c.key, key)
		}
		c.add(ceiling.Unsafe, "", "%s", c.bare(err))
		return
	}
	c.known = true
	if c.at.origin.String() == "" {
		c.add(ceiling.Note, "", "the cursor does not say which history of the database it is of: it was made from a key, or adopted; those of the batches to come will")
	}
}

// findCeiling opens a guard of its own, and asks it once.
func (c *checker) findCeiling(ctx context.Context, db ceiling.Queryer) error {
	s := &state{query: c.query}
	limit, err := s.limit(ctx, db, c.at.key)
	var unsafe *ceiling.UnsafeError
	var rewound *ceiling.RewoundError
	switch {
	case errors.As(err, &unsafe):
		c.Report = unsafe.Report
		return nil
	case errors.As(err, &rewound):
		c.Report = s.guard.Report()
		c.add(ceiling.Unsafe, rewindAdvice, "%v: %s", ErrHistory, rewound.What)
	case err != nil && c.misfit(err):
		return c.findCeiling(ctx, db)
	case err != nil:
		return err
	}
	c.Report, c.AsOf, c.Held = s.guard.Report(), limit.AsOf, limit.Held
	c.below = limit
	if limit.Where == "" && limit.Nothing { // a ceiling need not name one where there is nothing to read
		if all, err := s.limit(ctx, db, nil); err == nil {
			c.below = all
		}
	}
	if err := c.findNull(ctx, db, c.plan, 0, nil); err != nil {
		if retry.Classify(err) != retry.Fatal {
			return err
		}
		c.add(ceiling.Unsafe, "", "%s", c.bare(err))
	}
	for _, k := range c.plan.key {
		if k.Nullable {
			c.add(ceiling.Note, "", "%q may be NULL: a row where it is would be an error", k.Name)
		}
	}
	return nil
}

// compareHistory compares the database's history with the cursor's.
func (c *checker) compareHistory(ctx context.Context, db ceiling.Queryer) error {
	h, err := c.sql.History(ctx, db, c.table)
	if err != nil {
		return c.wrap(fmt.Errorf("reading what identifies the database's history: %w", err), nil)
	}
	var parts []string
	for _, p := range h.Parts {
		if p.Value != "" {
			parts = append(parts, p.Name+" "+p.Value)
		}
	}
	addSequence(&h, c.below.Sequence)
	if err := c.at.origin.follows(h); errors.Is(err, errBehind) {
		c.add(ceiling.Note, "", "%v", err)
	} else if err != nil {
		c.add(ceiling.Unsafe, adoptAdvice, "%v: %v", ErrHistory, err)
	} else if len(parts) == 0 {
		c.add(ceiling.Note, "", "nothing tells this database from another one, or from an older state of it: a cursor of that would be taken")
	} else if c.at.origin.String() != "" {
		c.add(ceiling.OK, "", "the cursor is of this database's history (%s)", strings.Join(parts, ", "))
	}
	return nil
}

// misfit makes a finding of an error that is the cursor's, and drops its key.
func (c *checker) misfit(err error) bool {
	if c.at.key == nil || retry.Classify(err) != retry.Fatal {
		return false
	}
	c.add(ceiling.Unsafe, rewindAdvice, "%s", c.bare(err))
	c.at.key, c.known = nil, false
	return true
}

// statement writes the statement and has it planned. It reports whether it is
// known to use an index.
func (c *checker) statement(ctx context.Context) (indexed bool, err error) {
	statement, args, err := c.query.statement(c.plan, c.plan.list, keyRange{after: c.at.key, below: c.below, limit: firstLimit + 1})
	var f ceiling.Finding
	if err == nil {
		c.Plan, f, err = c.planOf(ctx, statement, args, c.at.key)
	}
	if err != nil && c.misfit(err) {
		return c.statement(ctx)
	}
	if err != nil {
		return false, err
	}
	c.Statement = statement
	for _, a := range args {
		c.Args = append(c.Args, argument(a))
	}
	c.Findings = append(c.Findings, f)
	return f.Level == ceiling.OK || f.Level == ceiling.Note, nil
}

func argument(a any) string {
	switch a := a.(type) {
	case []byte:
		return "0x" + hex.EncodeToString(a)
	case string:
		return strconv.Quote(a)
	case time.Time:
		return a.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(a)
}

// pending finds the greatest key, and counts the rows behind the cursor.
func (c *checker) pending(ctx context.Context, db ceiling.Queryer) error {
	newest, err := c.latest(ctx, db, c.plan)
	if err != nil {
		return err
	}
	if newest != nil {
		c.Newest = describeKey(c.key, newest)
	}
	if !c.known {
		return nil
	}
	statement, args, err := c.query.statement(c.plan, "1 AS one", keyRange{after: c.at.key, limit: MaxPending + 1})
	if err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM ("+statement+") AS n", args...).Scan(&c.Pending); err != nil {
		return c.wrap(fmt.Errorf("counting the rows after the cursor: %w", err), c.at.key)
	}
	return nil
}
