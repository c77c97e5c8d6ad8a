package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// part is a batch of rows of one table.
type part struct {
	source.Batch[row.Row]
	name string
	key  []string
}

// fetch is Fetch for both forms of records.
func (e *engine) fetch(ctx context.Context, o Options, tables []Table, after source.Cursor, limit int) (part, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.init(o, tables); err != nil {
		return part{}, err
	}
	if limit < 1 {
		return part{}, permanent("the caller asked for a limit of %d rows", limit)
	}
	if err := ctx.Err(); err != nil {
		return part{}, fmt.Errorf("snapshot: %w", err)
	}
	at, err := decode(after)
	if err != nil {
		return part{}, err
	}
	i := 0
	if after != "" {
		i = slices.IndexFunc(e.tables, func(t *table) bool { return t.Name == at.table })
		if at.tables != digestOf(e.tables) || i < 0 && at.form != done {
			return part{}, permanent("the cursor %q %s was made with other tables, or with the same in another order; continue with that list, or start over with an empty checkpoint", after.Short(), at.where())
		}
	}
	if at.form == done {
		return part{}, source.ErrEnd
	}
	p, err := e.next(ctx, at, i, limit)
	if err != nil && e.apart {
		p, err = e.next(ctx, at, i, limit)
	}
	p.From = after
	return p, err
}

// next reads the next batch in the open transaction, or in a new one. On a standby an error ends the transaction, which has no
// savepoint. Then the batch is read without one, so that a row that the server cannot return is found, and
// reading goes on in another.
func (e *engine) next(ctx context.Context, at place, i, limit int) (part, error) {
	if err := e.begin(ctx); err != nil {
		e.apart = false
		return part{}, err
	}
	if e.apart {
		defer func() {
			if e.session != nil {
				e.drop()
			}
			e.apart = false
		}()
	}
	at, err := e.resume(ctx, at)
	if err != nil {
		return part{}, err
	}
	p, err := e.read(ctx, at, i, limit)
	if err != nil {
		return part{}, e.failed(ctx, err)
	}
	return p, nil
}

// init checks the fields and sets their defaults, once.
func (e *engine) init(o Options, tables []Table) (err error) {
	if e.ready {
		return nil
	}
	o.complete()
	switch {
	case o.DB == nil:
		return permanent("DB is nil")
	case len(tables) == 0:
		return permanent("Tables is empty")
	case o.MaxBytes < 0 || o.MaxRowBytes < 0:
		return permanent("MaxBytes or MaxRowBytes is negative")
	}
	e.opts, e.sql, e.tables = o, o.Dialect, nil
	if e.sql == nil {
		if e.sql, err = builtin.Find(o.DB); err != nil {
			return permanent("%w", err)
		}
	}
	if e.server, err = serverOf(e.sql); err != nil {
		return err
	}
	for i, t := range tables {
		parts, err := dialect.SplitName(t.Name)
		if err != nil {
			return permanent("the table's name %q: %w", t.Name, err)
		}
		if slices.ContainsFunc(tables[:i], func(u Table) bool { return u.Name == t.Name }) {
			return permanent("Tables has %s twice", t.Name)
		}
		e.tables = append(e.tables, &table{Table: t, engine: e, parts: parts, quoted: dialect.QuoteAll(e.sql, parts), shown: t.Name})
	}
	e.ready = true
	return nil
}

// resume continues from a place in the open transaction, which can be a later one than that of the place.
func (e *engine) resume(ctx context.Context, at place) (place, error) {
	s := e.session
	switch {
	case at.session == "":
		return place{history: s.history, session: s.id, moment: s.moment, moments: 1, form: start,
			tables: digestOf(e.tables), table: e.tables[0].Name}, nil
	case at.session == s.id:
		return at, nil
	case at.history != "" && s.history != "" && at.history != s.history:
		return at, permanent("%w: it was made in another database or on another server; start over with an empty checkpoint", sqlsource.ErrHistory)
	case e.opts.Strict:
		return at, permanent("%w; start over with an empty checkpoint", ErrInterrupted)
	}
	if e.previous != at.session {
		e.previous = at.session
		e.opts.Logger.WarnContext(ctx, "snapshot interrupted", "table", at.table, "rows", at.rows, "since", at.moment, "moment", s.moment)
	}
	at.session, at.history = s.id, s.history
	at.moments++
	return at, nil
}

// read reads the next rows after a place in the i-th table, or in the first of the next ones that has any.
func (e *engine) read(ctx context.Context, at place, i, limit int) (p part, err error) {
	for ; ; i++ {
		t := e.tables[i]
		b, next, err := t.fetch(ctx, at, limit)
		var bad *source.BadRecord
		if errors.As(err, &bad) {
			return p, e.badRecord(t, next, bad)
		}
		if err != nil {
			return p, err
		}
		last := i == len(e.tables)-1
		if len(b.Records) == 0 && b.Held == nil && !b.More && !last {
			at = at.at(e.tables[i+1].Name)
			continue
		}
		p = part{Batch: b, name: t.shown, key: t.key}
		p.More = b.More || !last && b.Held == nil
		p.AsOf = time.Time{}
		if last && !b.More && b.Held == nil {
			next = next.at("")
			next.form, p.More = done, false
			if at.moments == 1 && !e.session.standby { // otherwise a part may be of a standby, which lags
				p.AsOf = at.moment
			}
		}
		if p.To, err = next.encode(); err != nil {
			return p, err
		}
		p.Guarantee, p.Position = e.promise(next), e.position(next, i, b.Position)
		return p, nil
	}
}

// where describes the place for an error.
func (p place) where() string {
	if p.form == done {
		return "after the last row"
	}
	return "in the table " + p.table
}

// at returns the place before the first row of a table.
func (p place) at(table string) place {
	p.table, p.rows, p.form, p.inner = table, 0, start, ""
	return p
}

func (e *engine) badRecord(t *table, next place, bad *source.BadRecord) error {
	to, err := next.encode()
	if err != nil {
		return err
	}
	key := bad.Key
	if len(e.tables) > 1 {
		key = t.shown + " " + key
	}
	return &source.BadRecord{Key: key, To: to, Err: bad.Err}
}

// promise returns the guarantee for the rows up to a place.
func (e *engine) promise(at place) *source.Guarantee {
	if at.moments < 2 {
		return e.guarantee
	}
	if e.resumed == nil || e.resumedFor != at.moments {
		g := *e.guarantee
		g.Text = fmt.Sprintf("the snapshot was interrupted: the rows are as of %d moments, from %s on, and the last is this: %s; a row whose key was changed in between can be missing, or be there twice",
			at.moments, at.moment.Format(time.RFC3339), g.Text)
		e.resumed, e.resumedFor = &g, at.moments
	}
	return e.resumed
}
