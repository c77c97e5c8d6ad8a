package sqlsource

import (
	"context"
	"database/sql"
	"errors"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// reader reads the rows of one batch.
type reader struct {
	*query
	db    ceiling.Queryer
	plan  *plan
	keys  *keys
	limit int
	add   func() int

	rows, bytes int   // of the batch
	more        bool  // another row follows
	unread      error // why that row could not be read
}

// scanner is a [sql.Scanner].
type scanner func(src any) error

// Scan implements [sql.Scanner].
func (s scanner) Scan(src any) error { return s(src) }

// dest returns what a row is scanned into: the extra columns, then what bind sets.
func (r *reader) dest(bind func([]any)) []any {
	p := r.plan
	n := len(p.extraKeys) + len(p.extraForms)
	all := make([]any, n+len(p.columns))
	extra, columns := all[:0], all[n:]
	bind(columns)
	for _, k := range p.extraKeys {
		extra = append(extra, r.keys.scanner(k, p.key[k].Kind, nil))
	}
	for _, c := range p.extraForms {
		held, cell := new(held), columns[c].(sql.Scanner)
		extra = append(extra, held)
		columns[c] = scanner(func(any) error { return cell.Scan(held.src) }) // instead of what the driver made
	}
	for i, at := range p.sameAs {
		if at >= 0 {
			columns[at] = r.keys.scanner(i, p.key[i].Kind, columns[at].(sql.Scanner))
		}
	}
	return all
}

// held keeps the extra form of a column until its column is scanned.
type held struct {
	src any
	buf []byte
}

// Scan implements [sql.Scanner].
func (h *held) Scan(src any) error {
	if b, ok := src.([]byte); ok { // the driver's own memory
		h.buf = append(h.buf[:0], b...)
		src = h.buf
	}
	h.src = src
	return nil
}

// readBelow reads the rows after a position and below a window, and returns where the last is.
func (r *reader) readBelow(ctx context.Context, w *window, at position, dest []any) (position, error) {
	if w.Nothing {
		return at, nil
	}
	before := r.rows
	if err := r.read(ctx, keyRange{after: at.key, below: w.Limit, limit: r.limit + 1}, dest); err != nil || r.rows == before {
		return at, err
	}
	at.key, at.origin = values(r.keys.last), w.origin
	var err error
	at.cursor, err = encode(r.print, at.origin, at.key)
	return at, err
}

// read reads up to the limit of rows, and one more to see whether it exists and has the same
// key. It asks for the same number each time: every number makes another statement.
func (r *reader) read(ctx context.Context, where keyRange, dest []any) error {
	statement, args, err := r.statement(r.plan, r.plan.list, where)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := r.db.QueryContext(ctx, statement, args...)
	if err != nil {
		return r.wrap(err, where.after)
	}
	defer rows.Close()
	if err := r.plan.fits(r.query, rows); err != nil {
		return r.wrap(err, where.after)
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			err = r.scanError(ctx, err, r.keys)
			if r.rows > 0 && ctx.Err() == nil { // deliver the rows before it first
				r.more, r.unread = true, err
				return nil
			}
			return err
		}
		if err := r.keys.check(); err != nil {
			return err
		}
		size := r.add()
		if r.rows == r.limit || r.rows > 0 && (r.bytes+size > r.maxBytes || size > r.maxRowBytes) {
			r.more = true
			// Drivers read a closed result to its end. Where that is much, a new connection costs less.
			if left := r.limit - r.rows; left*(max(size, r.bytes/r.rows)/4) > r.maxBytes {
				cancel()
			}
			return nil
		}
		if size > r.maxRowBytes {
			return permanent("%s: the row with the key %s takes %d bytes, more than MaxRowBytes, which is %d; raise it, or exclude the row by a condition",
				r.label, describeKey(r.keys.names, values(r.keys.now)), size, r.maxRowBytes)
		}
		r.rows++
		r.bytes += size
		r.keys.keep()
	}
	return r.wrap(errors.Join(rows.Err(), rows.Close()), where.after)
}
