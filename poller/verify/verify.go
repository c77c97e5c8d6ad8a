package verify

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/compare"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Files compares the rows in a directory of package filesink, in JSON Lines or CSV,
// with the table, up to the directory's cursor. It reads the fields of t and does not
// fetch from t. It retries nothing: a batch that takes longer than timeout to read is an
// error. A timeout of 0 means no limit. After an error the report covers the rows that
// were compared before it.
func Files(ctx context.Context, t *sqlsource.Table, dir string, timeout time.Duration) (r Report, err error) {
	r.Table, r.Key, r.Dir = t.Name, t.Key, dir
	defer func() {
		if err != nil {
			err = fmt.Errorf("verify: %w", err)
		}
	}()
	v := &verifier{ctx: ctx, timeout: cmp.Or(timeout, math.MaxInt64), table: t, report: &r}
	if v.contents, err = filesink.ReadContents(dir); err != nil {
		return r, err
	}
	if v.cursor, err = t.Adopt(v.contents.Cursor); err != nil {
		return r, err
	}
	r.UpTo = t.Describe(v.cursor)
	runs, err := v.runs()
	if err != nil {
		return r, err
	}
	if err = v.probe(); err != nil {
		return r, err
	}
	for _, v.run = range runs {
		if err = v.compareRun(); err != nil {
			return r, err
		}
	}
	return r, nil
}

type verifier struct {
	ctx      context.Context
	timeout  time.Duration
	table    *sqlsource.Table // the settings
	contents filesink.Contents
	cursor   source.Cursor // of the directory
	report   *Report

	columns *row.Columns  // of the table now; nil if it has no row
	binary  []bool        // which columns of the key hold bytes
	run     run           // the one that is compared
	before  *segment      // the segment that was read last, nil before the first one of the run
	after   source.Cursor // where the last part began
}

// of returns a table that is read up to a cursor, "" for no bound.
func (v *verifier) of(columns []string, upTo source.Cursor) *sqlsource.Table {
	t := v.table
	return &sqlsource.Table{DB: t.DB, Name: t.Name, Key: t.Key, Columns: columns, Where: t.Where, Select: t.Select, MaxBytes: t.MaxBytes,
		MaxRowBytes: t.MaxRowBytes, Dialect: t.Dialect, Ceiling: bound{upTo}, Logger: slog.New(slog.DiscardHandler)}
}

// source returns t with the timeout for each fetch.
func (v *verifier) source(t *sqlsource.Table) source.Source[row.Row] {
	return source.Func[row.Row](func(_ context.Context, after source.Cursor, limit int) (b source.Batch[row.Row], err error) {
		err = v.limited(func(ctx context.Context) (err error) {
			b, err = t.Fetch(ctx, after, limit)
			return err
		})
		return b, err
	})
}

// rowsIn reports whether the table has rows after one cursor and up to another.
func (v *verifier) rowsIn(t *sqlsource.Table, after, upTo source.Cursor) (found bool, err error) {
	err = v.limited(func(ctx context.Context) error {
		rows, err := t.Keys(ctx, after, upTo, 1)
		found = len(rows) > 0
		return err
	})
	return found, err
}

func (v *verifier) limited(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(v.ctx, v.timeout)
	defer cancel()
	err := f(ctx)
	if err != nil && ctx.Err() != nil && v.ctx.Err() == nil {
		err = fmt.Errorf("no answer within %v: %w", v.timeout, err)
	}
	return err
}

// bound is a ceiling at a cursor. Up to the cursor of a pipeline nothing is waited
// for: the pipeline has waited already.
type bound struct{ upTo source.Cursor }

func (bound) String() string { return "up to the cursor" }

func (b bound) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return b, nil
}

func (b bound) Report() ceiling.Report { return ceiling.Report{Strategy: b.String()} }

func (b bound) Advance(context.Context, ceiling.Queryer, []string) (ceiling.Limit, error) {
	return ceiling.Limit{UpTo: b.upTo}, nil
}

// probe reads a row, to know the table's columns.
func (v *verifier) probe() error {
	v.binary = make([]bool, len(v.table.Key))
	note := func(r *row.Row) (compare.Entry, error) {
		v.columns = r.Columns()
		return compare.Entry{}, nil
	}
	for _, err := range compare.Source(v.ctx, v.source(v.of(v.table.Columns, "")), "", note) {
		if err != nil {
			return err
		}
		if v.columns != nil { // nil after a row that cannot be read
			break
		}
	}
	if v.columns == nil {
		return nil
	}
	for i, name := range v.table.Key {
		at := v.columns.Index(name)
		v.binary[i] = at >= 0 && v.columns.Kind(at) == row.Bytes
	}
	return nil
}

// part compares the segments from s on with the table, as far as each continues the
// one before, and returns the next one.
func (v *verifier) part(s *segment) (next *segment, err error) {
	if gone := v.gone(s.columns); len(gone) > 0 {
		v.report.unknown("%s has columns that the table does not have: %q", s.name, gone)
		v.before = nil
		s.file.Close()
		return v.open()
	}
	columns := s.columns
	if columns == nil { // no record of the segment is good
		columns = v.table.Columns
	}
	t := v.of(columns, v.run.upTo)
	if v.after, err = v.begin(t, s); err != nil {
		return nil, err
	}
	encoder, err := encoderFor(s.name)
	if err != nil {
		return nil, err
	}
	got := func(yield func(compare.Entry, error) bool) {
		for {
			if !s.entries(v.table.Key, yield) {
				return
			}
			v.before = s
			next, err = v.open()
			switch {
			case err != nil:
				yield(compare.Entry{}, err)
				return
			case next == nil:
				if s.number < v.run.last {
					v.report.note("the segments after %s are not in the directory: the rows in them are not compared", s.name)
					yield(compare.Entry{}, compare.ErrPart)
				}
				return
			case !v.continues(next):
				yield(compare.Entry{}, compare.ErrPart)
				return
			}
			s = next
		}
	}
	return next, v.compare(t, v.after, v.entryOf(encoder, s.format), got)
}

// gone returns the columns that the table does not have, of those given.
func (v *verifier) gone(columns []string) []string {
	return slices.DeleteFunc(slices.Clone(columns), func(name string) bool { return v.columns == nil || v.columns.Index(name) >= 0 })
}

// begin returns the cursor from which the rows of a segment follow.
func (v *verifier) begin(t *sqlsource.Table, s *segment) (source.Cursor, error) {
	switch b := v.before; {
	case b != nil && s.number == b.number+1 && b.last != nil:
		return v.at(t, b.last)
	case b != nil && s.number == b.number+1: // no record before it is good
		return v.after, nil
	case b == nil && s.number == v.run.first && v.run.after != sqlsource.Latest:
		return v.run.after, nil
	case s.first == nil:
		return "", fmt.Errorf("%s has no record that can be read: put it right, or move it away", s.name)
	}
	v.report.note("the segments before %s are not in the directory: the rows up to the key %s are not compared", s.name, keyText(s.first))
	s.head = s.head[:len(s.head)-1] // the first good record
	after, err := v.at(t, s.first)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return after, err
}

// continues reports whether the rows of a segment follow those before it, with the
// same columns.
func (v *verifier) continues(s *segment) bool {
	b := v.before
	if s.number != b.number+1 {
		return false
	}
	if s.first == nil { // all of it is damaged
		s.last, s.columns = b.last, b.columns
	}
	return slices.Equal(s.columns, b.columns)
}

func (v *verifier) compare(t *sqlsource.Table, after source.Cursor, entry func(*row.Row) (compare.Entry, error), got func(func(compare.Entry, error) bool)) error {
	order := func(a, b string) (int, error) {
		x, err := parseKey(a, len(v.table.Key))
		if err != nil {
			return 0, err
		}
		y, err := parseKey(b, len(v.table.Key))
		if err != nil {
			return 0, err
		}
		return v.order(t, x, y)
	}
	r, err := compare.Streams(compare.Source(v.ctx, v.source(t), after, entry), got, compare.Options{Order: order})
	v.report.Parts = append(v.report.Parts, r)
	return err
}
