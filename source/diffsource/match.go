package diffsource

import (
	"context"
	"slices"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// page has rows of one side that were read together.
type page struct {
	items  []item
	paired []bool
	left   int // how many are not paired
	index  map[sqlsource.Key]int
}

func newPage(items []item) *page {
	p := &page{items: items, paired: make([]bool, len(items)), left: len(items), index: make(map[sqlsource.Key]int, len(items))}
	for i, it := range items {
		p.index[it.key] = i
	}
	return p
}

func (p *page) pair(i int) *item {
	p.paired[i] = true
	p.left--
	return &p.items[i]
}

// match compares rows whose order only the databases know. If it is the same, or nearly so, the two rows of a key are in pages that
// are read at the same time. The rest is looked up.
func (c *Comparison) match(ctx context.Context, w *waiting) error {
	var held [2][]*page // at most two of each side, so that the memory is bounded
	left := func(i int) (n int) {
		for _, p := range held[i] {
			n += p.left
		}
		return n
	}
	for ended := [2]bool{}; !ended[0] || !ended[1]; {
		i := 0
		if ended[0] || !ended[1] && left(0) > left(1) {
			i = 1
		}
		s := c.sides[i]
		if err := s.fillRows(ctx, 1); err != nil {
			return err
		}
		if len(s.rows) == 0 {
			ended[i] = true
			continue
		}
		if len(held[i]) == 2 {
			if err := c.lookUp(ctx, w, i, held[i][0]); err != nil {
				return err
			}
			held[i] = slices.Delete(held[i], 0, 1)
		}
		p := newPage(s.rows)
		s.rows = nil
		if i == 0 {
			c.report.Rows += int64(len(p.items))
		}
		if err := c.matchPage(ctx, w, i, p, held[1-i]); err != nil {
			return err
		}
		held[i] = append(held[i], p)
	}
	for i := range held {
		for _, p := range held[i] {
			if err := c.lookUp(ctx, w, i, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// matchPage pairs the rows of a page with those of the other side's pages.
func (c *Comparison) matchPage(ctx context.Context, w *waiting, i int, p *page, others []*page) error {
	for n := range p.items {
		for _, other := range others {
			m, ok := other.index[p.items[n].key]
			if !ok || other.paired[m] {
				continue
			}
			a, b := p.pair(n), other.pair(m)
			if i == 1 {
				a, b = b, a
			}
			if err := w.pair(ctx, a, b); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// lookUpRows is how many rows are looked up at once.
const lookUpRows = 200

// lookUp looks up the rows of a page that were not paired in the other table. Those of the source are compared with what is found,
// and those of the copy only if nothing is: the others are compared when it is the source's turn.
func (c *Comparison) lookUp(ctx context.Context, w *waiting, i int, p *page) error {
	rest := make([]item, 0, p.left)
	for n, it := range p.items {
		if !p.paired[n] {
			rest = append(rest, it)
		}
	}
	in := c.sides[1-i].table
	if i == 1 {
		in = c.sides[0].keys
	}
	for items := range slices.Chunk(rest, lookUpRows) {
		found, err := c.find(ctx, in, items)
		if err != nil {
			return err
		}
		for n := range items {
			a, b := &items[n], found[n]
			if i == 1 {
				a, b = b, a
			}
			if i == 1 && a != nil {
				continue
			}
			if err := w.pair(ctx, a, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// find returns for each row the one of a table of the other side that has its key, or nil.
func (c *Comparison) find(ctx context.Context, in table, items []item) ([]*item, error) {
	keys := make([]sqlsource.Key, len(items))
	for i, it := range items {
		keys[i] = it.key
	}
	rows, spelled, err := in.FetchRows(ctx, keys)
	if err != nil {
		return nil, err
	}
	at := map[sqlsource.Key]int{}
	for i, k := range keys {
		at[k] = i
	}
	found := make([]*item, len(items))
	for i, r := range rows {
		n, ok := at[spelled[i]]
		for j := 0; !ok && j < len(items); j++ { // a decimal or a time that the other database writes in another way
			if found[j] == nil && items[j].bad == nil && c.sameKey(items[j].row, r) {
				n, ok = j, true
			}
		}
		if ok {
			found[n] = &item{key: spelled[i], row: r}
		}
	}
	return found, nil
}
