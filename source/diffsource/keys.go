package diffsource

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// use sets the columns of the rows that follow.
func (p *pass) use(columns *row.Columns) {
	if p.columns == columns {
		return
	}
	p.columns, p.index, p.keyOnly = columns, nil, nil
	p.names = p.names[:0]
	for i := range columns.Len() {
		p.names = fmt.Appendf(p.names, "%q,", columns.Name(i))
	}
	var index, kinds []int
	for _, name := range p.source.Table.Key {
		if i := columns.Index(name); i >= 0 {
			index, kinds = append(index, i), append(kinds, int(columns.Kind(i)))
		}
	}
	if len(index) == len(p.source.Table.Key) {
		p.index, p.kinds = index, kinds
	}
	p.out.header.Kinds = p.kinds
}

// fillKeys sets the keys of changes that have a row.
func (p *pass) fillKeys(changes []row.Change) {
	var rows []row.Row
	var of []int
	pick := func() {
		if len(rows) == 0 {
			return
		}
		index := make([]int, 0, len(p.source.Table.Key))
		for _, name := range p.source.Table.Key {
			index = append(index, rows[0].Columns().Index(name))
		}
		for i, key := range row.Pick(rows, index...) {
			changes[of[i]].Key = key
		}
		rows, of = rows[:0], of[:0]
	}
	for i, c := range changes {
		if c.Key.Len() > 0 {
			continue
		}
		if len(rows) > 0 && rows[0].Columns() != c.Row.Columns() {
			pick()
		}
		rows, of = append(rows, c.Row), append(of, i)
	}
	pick()
}

// keyRow returns a key as a row, as it was in the row that is gone.
func (p *pass) keyRow(k sqlsource.Key) (row.Row, error) {
	values, err := k.Values()
	if err != nil {
		return row.Row{}, err
	}
	if p.keyOnly == nil {
		kinds := make([]row.Kind, len(values))
		for i, v := range values {
			if _, ok := v.(string); ok {
				kinds[i] = row.Text
			}
			if len(p.kinds) == len(values) {
				kinds[i] = row.Kind(p.kinds[i])
			}
		}
		p.keyOnly = row.NewColumns(p.source.Table.Key, kinds)
	}
	return row.Of(p.keyOnly, values...)
}

// lookup is how many keys are looked up at once.
const lookup = 100

// isPresent reports whether the row of the first entry is in the table, although it was not read next to
// it. That is so if the order of the keys is not the one of the pass before.
func (p *pass) isPresent(ctx context.Context, key sqlsource.Key) (bool, error) {
	if p.verified == 0 {
		n := max(p.deletes, 1)
		if len(p.rows) == 0 {
			n = lookup
		}
		if _, err := p.base.fill(min(n, lookup)); err != nil {
			return false, err
		}
		var keys []sqlsource.Key
		for _, e := range p.base.queue[:min(n, lookup, len(p.base.queue))] {
			keys = append(keys, e.key)
		}
		_, found, err := p.source.table.FetchRows(ctx, keys)
		if err != nil {
			return false, err
		}
		p.present = map[sqlsource.Key]bool{}
		for _, k := range found {
			p.present[k] = true
		}
		p.verified = len(keys)
	}
	return p.present[key], nil
}

// window is how many rows and entries are compared by their keys alone.
const window = 4096

// align returns how many entries and rows at the heads have no partner, where only the database knows
// the order of their keys. At least one of the numbers is not 0.
func (p *pass) align(ctx context.Context) (deletes, inserts int, err error) {
	if err := p.fillRows(ctx, window); err != nil {
		return 0, 0, err
	}
	if _, err := p.base.fill(window); err != nil {
		return 0, 0, err
	}
	rows, entries := p.rows[:min(window, len(p.rows))], p.base.queue[:min(window, len(p.base.queue))]
	ofRow, ofEntry := map[sqlsource.Key]int{}, map[sqlsource.Key]int{}
	for n := range max(len(rows), len(entries)) {
		if n < len(rows) {
			if i, ok := ofEntry[rows[n].key]; ok {
				return i, n, nil
			}
			ofRow[rows[n].key] = n
		}
		if n < len(entries) {
			if i, ok := ofRow[entries[n].key]; ok {
				return n, i, nil
			}
			if _, ok := ofEntry[entries[n].key]; !ok {
				ofEntry[entries[n].key] = n
			}
		}
	}
	allRows, allEntries := p.ended && len(rows) == len(p.rows), len(entries) < window
	switch {
	case allRows && allEntries:
		return len(entries), len(rows), nil
	case allRows:
		return len(entries), 0, nil
	case allEntries:
		return 0, len(rows), nil
	}
	after, err := p.source.table.AtKey(entries[len(entries)-1].key)
	if err != nil {
		return 0, 0, err
	}
	to, err := p.source.table.AtKey(rows[len(rows)-1].key)
	if err != nil {
		return 0, 0, err
	}
	between, err := p.source.table.Keys(ctx, after, to, 1)
	if err != nil || len(between) > 0 {
		return len(entries), 0, err
	}
	return 0, max(len(rows)-1, 1), nil
}

// wait waits until rows that are held back may be read.
func wait(ctx context.Context, held *source.Held) error {
	t := time.NewTimer(max(held.Retry, 5*time.Millisecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
