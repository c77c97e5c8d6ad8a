package diffsource

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"

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
	if len(p.names) > len(digest{}) { // a row of many columns is hashed faster
		sum := sha256.Sum256(p.names)
		p.names = append(p.names[:0], sum[:len(digest{})]...)
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

// fillKeys sets the keys of changes.
func (p *pass) fillKeys(changes []row.Change) error {
	if err := p.keyRows(changes); err != nil {
		return err
	}
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
	return nil
}

// unpin copies the rows of changes if they are few among the rows that were read with them. A row keeps all rows that were
// read with it in memory.
func unpin(changes []row.Change, read int) {
	var rows []row.Row
	var of []int
	size := 0
	for i, c := range changes {
		if c.Op != row.Delete {
			rows, of, size = append(rows, c.Row), append(of, i), size+c.Row.Size()
		}
	}
	if 2*size >= read {
		return
	}
	for len(rows) > 0 {
		columns, n := rows[0].Columns(), 1
		for n < len(rows) && rows[n].Columns() == columns {
			n++
		}
		index := make([]int, columns.Len())
		for i := range index {
			index[i] = i
		}
		for i, r := range row.Pick(rows[:n], index...) {
			changes[of[i]].Row = r
		}
		rows, of = rows[n:], of[n:]
	}
}

// keyFor is the key of a change that no row has.
type keyFor struct {
	change int
	key    sqlsource.Key
}

// keyRows sets the keys that no row has, as they were in the deleted rows.
func (p *pass) keyRows(changes []row.Change) error {
	if len(p.keys) == 0 {
		return nil
	}
	var b *row.Builder
	for _, k := range p.keys {
		values, err := k.key.Values()
		if err != nil {
			return err
		}
		if p.keyOnly == nil {
			p.keyOnly = p.columnsOf(values)
		}
		if b == nil {
			b = row.NewBuilder(p.keyOnly, len(p.keys))
		}
		for i, cell := range b.Dest() {
			if text, ok := values[i].(string); ok && p.source.typed && p.keyOnly.Kind(i) == row.Auto {
				values[i] = text == "true"
			}
			if err := cell.(sql.Scanner).Scan(values[i]); err != nil {
				return fmt.Errorf("diffsource: %w", err)
			}
		}
		b.Add()
	}
	for i, key := range b.Rows() {
		changes[p.keys[i].change].Key = key
	}
	p.keys = p.keys[:0]
	return nil
}

// columnsOf returns the columns of keys with values of these types.
func (p *pass) columnsOf(values []any) *row.Columns {
	kinds := make([]row.Kind, len(values))
	for i, v := range values {
		if _, ok := v.(string); ok {
			kinds[i] = row.Text
		}
		if len(p.kinds) == len(values) {
			kinds[i] = row.Kind(p.kinds[i])
		}
	}
	return row.NewColumns(p.source.Table.Key, kinds)
}

// standing says where else the key of an entry stands, if its row exists but is not next to the entry.
type standing struct {
	written bool   // in the state that this pass writes
	last    uint64 // in the state of the pass before: the number of its last entry
}

// isStale reports whether the first entry, which has no row next to it, is not the entry of its row.
// This happens only if the order of the keys has changed: then the row was read before, or has another
// entry. A row that was inserted again before this position is found by the next pass.
func (p *pass) isStale(ctx context.Context, key sqlsource.Key) (bool, error) {
	if p.verified == 0 {
		n := p.source.tuning.lookup
		if len(p.rows) > 0 {
			n = min(n, max(p.deletes, 1))
		}
		if _, err := p.base.fill(n); err != nil {
			return false, err
		}
		var keys []sqlsource.Key
		for _, e := range p.base.queue[:min(n, len(p.base.queue))] {
			keys = append(keys, e.key)
		}
		_, found, err := p.keyTable.FetchRows(ctx, keys)
		if err != nil {
			return false, err
		}
		if err := p.findStanding(ctx, found); err != nil {
			return false, err
		}
		p.verified = len(keys)
	}
	s := p.present[key]
	return s != nil && (s.written || s.last > p.now.taken), nil
}

// findStanding looks for keys in both states.
func (p *pass) findStanding(ctx context.Context, keys []sqlsource.Key) error {
	p.present = map[sqlsource.Key]*standing{}
	for _, k := range keys {
		p.present[k] = &standing{}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := p.out.flush(); err != nil {
		return fmt.Errorf("diffsource: %s: write the state: %w", p.source.Dir, err)
	}
	end, err := p.out.end()
	if err != nil {
		return err
	}
	c := p.now
	err = p.source.store.each(ctx, c.lineage, c.pass, end, 0, func(_ uint64, e entry) {
		if s := p.present[e.key]; s != nil {
			s.written = true
		}
	})
	if err != nil {
		return err
	}
	return p.source.store.each(ctx, c.lineage, c.pass-1, c.base, c.taken, func(n uint64, e entry) {
		if s := p.present[e.key]; s != nil {
			s.last = n
		}
	})
}

// align returns how many entries and rows at the heads have no partner. It is used where only the database
// knows the order of their keys. Both are 0 if the rows were read again.
func (p *pass) align(ctx context.Context) (deletes, inserts int, err error) {
	window := p.source.tuning.window
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
	if p.ended && len(rows) == len(p.rows) {
		return len(entries), 0, nil
	}
	for i := len(rows) - 1; ; i /= 2 {
		before, found, err := p.before(ctx, rows[i].key, entries)
		switch {
		case err != nil:
			return 0, 0, err
		case found && before == 0:
			return 0, i + 1, nil
		case found:
			return before, 0, nil
		case i == 0: // the rows were deleted since they were read
			return 0, 0, p.readAgain()
		}
	}
}

// before returns how many entries are surely not after a row, and 0 only if all are. An entry is deleted before a row is inserted
// whose key equals its in a collation. found is false if the row does not exist now.
func (p *pass) before(ctx context.Context, row sqlsource.Key, entries []entry) (n int, found bool, err error) {
	order, found, err := p.table.Order(ctx, row, entries[0].key)
	if err != nil || !found || order < 0 {
		return 0, found, err
	}
	for n = len(entries); n > 1; n /= 2 {
		if order, found, err = p.table.Order(ctx, row, entries[n-1].key); err != nil || !found || order >= 0 {
			return n, found, err
		}
	}
	return 1, true, nil
}

// readAgain forgets the rows that were read but not compared.
func (p *pass) readAgain() (err error) {
	p.rows, p.ended, p.next = nil, false, ""
	if p.now.key != "" {
		p.next, err = p.table.AtKey(p.now.key)
	}
	return err
}
