package diffsource

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// item is a row of a table.
type item struct {
	key sqlsource.Key
	row row.Row
	bad *source.BadRecord // why it cannot be read
}

// pager reads the rows of a table in the order of their keys.
type pager struct {
	table    table
	pageRows int

	rows  []item        // read, and not taken
	next  source.Cursor // of the table, after the rows
	bytes int           // the size of the rows, and of those read with them
	read  int           // the size of all rows read
	ended bool          // no rows follow
}

// fillRows reads until n rows are queued, fewer if they are large, or no rows follow.
func (p *pager) fillRows(ctx context.Context, n int) error {
	if len(p.rows) == 0 {
		p.rows, p.bytes = nil, 0
	}
	for (len(p.rows) == 0 || len(p.rows) < n && p.bytes < sqlsource.DefaultMaxBytes) && !p.ended {
		if err := p.fetch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fetch reads the next rows.
func (p *pager) fetch(ctx context.Context) error {
	b, keys, err := p.table.FetchKeyed(ctx, p.next, p.pageRows)
	var bad *source.BadRecord
	switch {
	case errors.As(err, &bad):
		key, err := p.table.KeyOf(bad.To)
		if err != nil {
			return err
		}
		p.rows = append(p.rows, item{key: key, bad: bad})
	case err != nil:
		return err
	case len(b.Records) > 0:
		p.rows = slices.Grow(p.rows, len(b.Records))
		for i, r := range b.Records {
			p.rows = append(p.rows, item{key: keys[i], row: r})
		}
		p.bytes += b.Bytes
		p.read += b.Bytes
		p.ended = !b.More && b.Held == nil
	case b.Held != nil: // the server has not written their commit to its disk
		return wait(ctx, max(b.Held.Retry, 5*time.Millisecond))
	default:
		p.ended = true
		return nil
	}
	p.next, err = p.table.AtKey(p.rows[len(p.rows)-1].key)
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
