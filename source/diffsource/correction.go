package diffsource

import (
	"context"
	"maps"
	"slices"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// correction is a change of a key that the pass has not met: a delete, or the row whose key equals one that was deleted
// in a collation.
type correction struct {
	key  sqlsource.Key
	row  *row.Row        // nil: a delete
	ends []sqlsource.Key // the keys that need no correction after this change
}

// begunCorrection is written as deleted in place of keys whose corrections are not complete. It moves the cursor. No key equals
// it, and a row that was only deleted needs no correction.
const begunCorrection sqlsource.Key = ""

// correct returns the next correction, after all rows and entries were compared. What is left of the unsure keys has no
// row in the pass, and no entry that could have been deleted.
func (p *pass) correct(ctx context.Context) (c row.Change, err error) {
	if !p.compared {
		if err := p.leftOver(ctx); err != nil {
			return c, err
		}
		p.compared = true
	}
	if len(p.extra) == 0 && len(p.left) > 0 {
		n := min(len(p.left), p.source.tuning.lookup)
		if err := p.queueCorrections(ctx, p.left[:n]); err != nil {
			return c, err
		}
		p.left = p.left[n:]
	}
	if len(p.extra) == 0 {
		return c, nil
	}
	x := p.extra[0]
	p.extra = p.extra[1:]
	if len(x.ends) == 0 {
		x.ends = []sqlsource.Key{begunCorrection}
	}
	for _, key := range x.ends {
		if err := p.writeDeleted(key); err != nil {
			return c, err
		}
	}
	c = row.Change{Op: row.Delete, Table: p.source.Table.Name}
	if x.row != nil {
		c.Op, c.Row = row.Upsert, *x.row
		p.use(x.row.Columns())
	}
	if x.row == nil || p.index == nil {
		p.unkeyed = x.key
	}
	return c, nil
}

// leftOver finds the unsure keys that the copy may have and the state that the pass has written does not.
func (p *pass) leftOver(ctx context.Context) error {
	maps.DeleteFunc(p.unsure, func(_ sqlsource.Key, d *delivery) bool { return d.settled() })
	p.left = slices.Sorted(maps.Keys(p.unsure))
	p.unsure = nil
	if slices.ContainsFunc(p.left, func(k sqlsource.Key) bool { return !k.Ordered() }) { // an order that changed can bring back a row
		if err := p.findStanding(ctx, p.left); err != nil {
			return err
		}
		p.left = slices.DeleteFunc(p.left, func(k sqlsource.Key) bool { return p.present[k].written })
	}
	return nil
}

// queueCorrections queues the deletes of some keys. The copy can take such a key for that of a row of another spelling, so
// those that the pass has written follow, and only then the corrections are complete.
func (p *pass) queueCorrections(ctx context.Context, keys []sqlsource.Key) error {
	for _, key := range keys {
		p.extra = append(p.extra, correction{key: key})
	}
	if slices.ContainsFunc(keys, func(k sqlsource.Key) bool { return !k.Ordered() }) {
		rows, err := p.respelled(ctx, keys)
		if err != nil {
			return err
		}
		p.extra = append(p.extra, rows...)
	}
	if n := len(p.extra); n == len(keys) {
		for i, key := range keys {
			p.extra[i].ends = []sqlsource.Key{key}
		}
	} else {
		p.extra[n-1].ends = keys
	}
	return nil
}

// respelled returns the rows that the pass has written whose keys only equal one of some keys. Few rows are read whole,
// because a row can be large, or be one that the database cannot return.
func (p *pass) respelled(ctx context.Context, keys []sqlsource.Key) (all []correction, err error) {
	_, found, err := p.keyTable.FetchRows(ctx, keys)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(k sqlsource.Key) bool { return slices.Contains(keys, k) })
	if len(found) == 0 {
		return nil, nil
	}
	if err := p.findStanding(ctx, found); err != nil {
		return nil, err
	}
	rows, found, err := p.table.FetchRows(ctx, found)
	for i, key := range found {
		if s := p.present[key]; s != nil && s.written {
			all = append(all, correction{key: key, row: &rows[i]})
		}
	}
	return all, err
}
