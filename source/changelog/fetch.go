package changelog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// ErrGap is wrapped by the error of Fetch when changes after the cursor may be missing:
// triggers were missing for a time, changes were pruned before they were read, or the table
// was emptied or rebuilt in a way that runs no trigger. The error is permanent. Load the
// table again into an empty copy, or continue with the cursor that Adopt returns.
var ErrGap = errors.New("changes may be missing")

// checkEvery is how often the triggers are checked while no change arrives.
const checkEvery = 10 * time.Second

// Fetch implements [source.Source].
//
// With Load, an empty cursor stands before the first row of the table. Fetch reads the rows in
// the order of the key, then all changes that the change table holds. A row that changes
// while the table is read is among the changes, so the copy is right when these have been
// applied; until then it can show an older version of a row again. Without Load, an empty
// cursor stands before the first change that the change table holds.
//
// After each batch Fetch checks the triggers, see Check, before it returns the batch.
func (t *Table) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Change], error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	none := source.Batch[row.Change]{From: after, To: after}
	if limit < 1 {
		return none, permanent("%s: the caller asked for a limit of %d changes", t.Name, limit)
	}
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("changelog: %s: %w", t.Name, err)
	}
	if t.reader == nil {
		if err := t.check(ctx); err != nil {
			return none, err
		}
	}
	p, err := t.reader.position(ctx, t, after)
	if err != nil {
		return none, err
	}
	var b source.Batch[row.Change]
	if p.loading {
		b, err = t.load(ctx, p, limit)
	} else {
		b, err = t.changes(ctx, p, limit)
	}
	var bad *source.BadRecord
	if errors.As(err, &bad) {
		moved := p
		moved.inner = bad.To
		return none, &source.BadRecord{Key: bad.Key, To: moved.encode(t.reader.label), Err: bad.Err}
	}
	if err != nil {
		return none, err
	}
	b.From = after
	if len(b.Records) == 0 && b.To == p.encode(t.reader.label) {
		b.To = after
	}
	return b, nil
}

// check checks the triggers, and makes a reader of their records.
func (t *Table) check(ctx context.Context) error {
	return t.use(ctx, func(db ceiling.Queryer, e engine, f *facts) error {
		if err := t.checked(ctx, db, e, f); err != nil {
			return err
		}
		var err error
		if f.types, err = f.sql.Types(ctx, db, f.parts, nil); err != nil {
			return err
		}
		if t.reader != nil && t.reader.same(f) {
			t.reader.facts.marks, t.reader.checked = f.marks, time.Now()
			return nil
		}
		r, err := newReader(ctx, db, t, f)
		if err == nil {
			t.reader = r
		}
		return err
	})
}

// position decodes a cursor.
func (r *reader) position(ctx context.Context, t *Table, c source.Cursor) (position, error) {
	switch {
	case c != "":
		return decode(c, r.label)
	case !t.Load:
		return position{marks: marksOf(r.facts.marks)}, nil
	}
	return r.begin(ctx, true)
}

// begin returns the first position. From it, a gap up to the last change that is committed now does not
// matter.
func (r *reader) begin(ctx context.Context, loading bool) (p position, err error) {
	p = position{loading: loading, marks: marksOf(r.facts.marks)}
	err = r.db.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM "+r.store).Scan(&p.safe)
	if err != nil {
		err = fmt.Errorf("changelog: %s: %w", r.label, err)
	}
	return p, err
}

// changes reads a batch of changes.
func (t *Table) changes(ctx context.Context, p position, limit int) (b source.Batch[row.Change], err error) {
	r := t.reader
	read, err := r.table.Fetch(ctx, p.inner, limit)
	if err != nil {
		if err = t.altered(ctx, err); err != nil {
			return b, err
		}
		return t.changes(ctx, p, limit)
	}
	if n := r.gap(p, read.Records); n >= 0 && n < len(read.Records) {
		switch {
		case n == 0 && r.unkeyed(read.Records[0]):
			return b, r.lost("the key had another name or type when change %s was recorded", read.Records[0].Text(0))
		case n == 0:
			return b, r.lost("the triggers were created again at change %s, and changes before that were not recorded", read.Records[0].Text(0))
		}
		if read, err = r.table.Fetch(ctx, p.inner, n); err != nil { // up to the gap
			return b, err
		}
	}
	if len(read.Records) > 0 || time.Since(r.checked) > checkEvery {
		if err := t.check(ctx); err != nil {
			return b, err
		}
		if t.reader != r { // recorded in another way by now
			return t.changes(ctx, p, limit)
		}
		if err := r.whole(ctx, p); err != nil {
			return b, err
		}
	}
	if p.marks == "" {
		p.marks = marksOf(r.facts.marks)
	}
	b = source.Batch[row.Change]{Bytes: read.Bytes, More: read.More, AsOf: read.AsOf, Held: read.Held, Pending: read.Pending}
	var n int
	b.Records, n, err = r.convert(ctx, read.Records)
	if bad := (*source.BadRecord)(nil); errors.As(err, &bad) {
		// The changes before it are a separate batch.
		if read, err = r.table.Fetch(ctx, p.inner, max(n, 1)); err != nil {
			return b, err
		}
		if n == 0 {
			return b, &source.BadRecord{Key: bad.Key, To: read.To, Err: bad.Err}
		}
		b.Records, _, err = r.convert(ctx, read.Records)
		b.Bytes, b.More = read.Bytes, read.More
	}
	if err == nil && slices.ContainsFunc(read.Records, r.isLookedUp) { // by the definitions that were checked before
		err = t.check(ctx)
	}
	if err != nil {
		return b, err
	}
	if t.reader != r {
		return t.changes(ctx, p, limit)
	}
	p.inner = read.To
	b.To, b.Guarantee = p.encode(r.label), r.guaranteed(read.Guarantee)
	if at := r.table.Position(p.inner); at != "" {
		b.Position = "change " + strings.TrimPrefix(at, "seq ")
	}
	return b, nil
}

// altered returns nil if a read failed and the table was altered since its reader was made, which explains that. Otherwise it
// returns the error of the read, or what Check finds.
func (t *Table) altered(ctx context.Context, failed error) error {
	r, bad := t.reader, (*source.BadRecord)(nil)
	if ctx.Err() != nil || errors.As(failed, &bad) {
		return failed
	}
	err := t.check(ctx)
	if wrong := (*InstallError)(nil); errors.As(err, &wrong) {
		return err
	}
	if err != nil || t.reader == r {
		return failed
	}
	return nil
}

// gap returns the index of the first change before which others may be missing, or whose key is not known,
// -1 without one. The record that marks the first begin of recording is not such a change.
func (r *reader) gap(p position, rows []row.Row) int {
	begun := p.inner != "" || p.safe > 0 // a load has begun, or a gap was adopted
	for i, c := range rows {
		if start := c.Text(1) == opStart; start && begun || r.unkeyed(c) {
			if seq, _ := strconv.ParseInt(c.Text(0), 10, 64); seq > p.safe {
				return i
			}
		}
		begun = true
	}
	return -1
}

// whole returns an error if changes after the position are missing by now. The change at the cursor
// must exist: they are pruned from the first one on.
func (r *reader) whole(ctx context.Context, p position) error {
	if now := marksOf(r.facts.marks); p.marks != "" && now != "" && p.marks != now {
		return r.lost("the table was emptied by TRUNCATE or rebuilt, which runs no trigger")
	}
	seq := r.seq(p.inner)
	if seq == "" {
		return nil
	}
	err := r.db.QueryRowContext(ctx, "SELECT 1 FROM "+r.store+" WHERE seq = "+seq).Scan(new(int))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r.lost("the change %s, which was read last, is gone: later ones may have been pruned before they were read", seq)
	case err != nil:
		return fmt.Errorf("changelog: %s: %w", r.label, err)
	}
	return nil
}

// seq returns the number of the change at a cursor of the change table, "" if it stands before the first.
func (r *reader) seq(inner source.Cursor) string {
	return strings.TrimPrefix(r.table.Position(inner), "seq ")
}

func (r *reader) lost(format string, args ...any) error {
	return permanent("%s: %w: %s; load the table again into an empty copy, or adopt the cursor", r.label, ErrGap, fmt.Sprintf(format, args...))
}

// Adopt returns the cursor with which Fetch continues after an [ErrGap], at the same position.
func (t *Table) Adopt(ctx context.Context, c source.Cursor) (source.Cursor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		if err := t.check(ctx); err != nil {
			return "", err
		}
	}
	p, err := t.reader.position(ctx, t, c)
	if err != nil {
		return "", err
	}
	now, err := t.reader.begin(ctx, p.loading)
	if err != nil {
		return "", err
	}
	now.inner = p.inner
	if !p.loading {
		if err := t.reader.whole(ctx, now); errors.Is(err, ErrGap) { // continue with the oldest change there is
			now.inner = ""
		} else if err != nil {
			return "", err
		}
	}
	return now.encode(t.reader.label), nil
}

// load reads a batch of the table's rows.
func (t *Table) load(ctx context.Context, p position, limit int) (b source.Batch[row.Change], err error) {
	r := t.reader
	read, err := r.rows.Fetch(ctx, p.inner, limit)
	if err == nil {
		err = t.check(ctx)
	} else {
		err = t.altered(ctx, err)
	}
	if err != nil {
		return b, err
	}
	if t.reader != r { // it has other columns by now
		return t.load(ctx, p, limit)
	}
	done := !read.More && read.Held == nil
	b = source.Batch[row.Change]{Bytes: read.Bytes, More: read.More || done, Held: read.Held, Guarantee: r.guaranteed(nil)}
	keys := row.Pick(read.Records, r.rowKey...)
	for i, present := range read.Records {
		b.Records = append(b.Records, row.Change{Op: row.Upsert, Table: r.label, Key: keys[i], Row: present})
	}
	p.inner = read.To
	b.Position = "row with " + r.rows.Position(p.inner)
	if done {
		p.loading, p.inner = false, ""
	}
	b.To = p.encode(r.label)
	return b, nil
}

// guaranteed returns what is promised; all batches share one value.
func (r *reader) guaranteed(by *source.Guarantee) *source.Guarantee {
	if r.guarantee == nil || by != nil && r.by != by {
		r.by = by
		r.guarantee = r.facts.guarantee(r.keysOnly, by)
	}
	return r.guarantee
}

// guarantee is the promise about the changes. by is the guarantee of the source that reads the change table.
func (f *facts) guarantee(keysOnly bool, by *source.Guarantee) *source.Guarantee {
	text := "every INSERT, UPDATE, DELETE and TRUNCATE of " + f.label + " that is committed is delivered, and the changes of each key in their order: triggers record it in " + f.store.name + ", in the same transaction"
	if keysOnly {
		text = "after every INSERT, UPDATE, DELETE and TRUNCATE of " + f.label + " that is committed, the row is delivered as it is when it is read, or as deleted: triggers record its key in " + f.store.name + ", in the same transaction"
	}
	if _, lite := f.more.(*liteFacts); !lite && !keysOnly {
		text += "; a change between ALTER TABLE and the next run of the script may be delivered as the row is when it is read"
	}
	g := &source.Guarantee{Name: "change-table"}
	if f.unseen != "" {
		text += "; " + f.unseen
	}
	if by != nil {
		g.Name, g.Lossy = "change-table, "+by.Name, by.Lossy
		text += "; of the change table, " + by.Text
	}
	g.Text = text
	return g
}
