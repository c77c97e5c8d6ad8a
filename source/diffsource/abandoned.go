package diffsource

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// delivery is what batches say of a key that were fetched, but whose cursors were not saved. The sink may have
// each of them, or not.
type delivery struct {
	digest  digest // of the row
	deleted bool   // instead of a row
	mixed   bool   // the batches differ
	sent    bool   // that the row is deleted was delivered, and belongs to the cursor
	branch  spot   // where the last of the batches leaves the state of the cursor
}

// spot is a place in a chain.
type spot struct {
	span   int
	offset int64
}

func (s spot) compare(other spot) int {
	return cmp.Or(cmp.Compare(s.span, other.span), cmp.Compare(s.offset, other.offset))
}

// matches reports whether the batches have delivered the row with a digest, and nothing else.
func (d *delivery) matches(of digest) bool {
	return d == nil || !d.mixed && !d.deleted && d.digest == of
}

// settled reports whether nothing must be delivered if no row has the key.
func (d *delivery) settled() bool { return d.deleted && !d.mixed }

// merge adds what another batch says.
func (d *delivery) merge(of digest, deleted bool, branch spot) {
	d.mixed = d.mixed || d.deleted != deleted || d.digest != of
	if d.branch.compare(branch) < 0 {
		d.branch = branch
	}
}

// abandoned returns the keys that batches of a pass have delivered that are not part of its state up to a place,
// and the kinds of their columns.
func (s *store) abandoned(lineage, pass uint64, end place) (all map[sqlsource.Key]*delivery, kinds []int, err error) {
	names, err := s.dir.List()
	if err != nil {
		return nil, nil, fmt.Errorf("diffsource: %s: %w", s.path, err)
	}
	a := &abandoned{store: s, on: map[uint64]int{}, headers: map[uint64]header{}, all: map[sqlsource.Key]*delivery{}}
	chain, err := s.open(lineage, pass, end, 0)
	if err != nil {
		return nil, nil, err
	}
	a.spans = chain.spans
	for i, span := range a.spans {
		a.on[span.segment] = i
	}
	var off []span
	for _, name := range names {
		of, n, segment, ok := parseName(name)
		if _, on := a.on[segment]; !ok || of != lineage || n != pass || on {
			continue
		}
		h, first, err := s.readHeader(name, segment)
		if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
			continue // it was not synced, so that no batch has named it
		}
		if err != nil {
			return nil, nil, s.lost(name, err)
		}
		a.headers[segment] = h
		off = append(off, span{name, segment, first, 0})
		if h.Kinds != nil {
			kinds = h.Kinds
		}
	}
	for i, span := range a.spans {
		span.from, span.to = span.to, 0
		if err := a.collect(span, spot{i, span.from}); err != nil {
			return nil, nil, err
		}
	}
	for _, span := range off {
		if err := a.collect(span, a.branch(span.segment)); err != nil {
			return nil, nil, err
		}
	}
	return a.all, kinds, a.resolve()
}

// abandoned finds the batches of a pass that are not part of a chain.
type abandoned struct {
	store   *store
	spans   []span         // of the chain
	on      map[uint64]int // the number of a segment's span in the chain
	headers map[uint64]header
	all     map[sqlsource.Key]*delivery
}

// branch returns where a segment leaves the chain.
func (a *abandoned) branch(segment uint64) spot {
	for {
		h, ok := a.headers[segment]
		parent, err := strconv.ParseUint(h.Parent, 16, 64)
		if !ok || err != nil {
			return spot{-1, 0}
		}
		if i, ok := a.on[parent]; ok {
			return spot{i, min(h.Offset, a.spans[i].to)}
		}
		segment = parent
	}
}

// collect adds the keys that the batches of a span have delivered. What is not readable was not synced.
func (a *abandoned) collect(s span, branch spot) error {
	err := a.store.delivered(s, func(_ int64, key sqlsource.Key, of digest, deleted bool) {
		if d := a.all[key]; d != nil {
			d.merge(of, deleted, branch)
		} else {
			a.all[key] = &delivery{digest: of, deleted: deleted, branch: branch}
		}
	})
	if errors.Is(err, errDamaged) {
		return nil
	}
	if err != nil {
		return a.store.lost(s.name, err)
	}
	return nil
}

// resolve removes the keys that the chain has delivered since. One that it has delivered as deleted stays, because
// its entry can come later.
func (a *abandoned) resolve() error {
	if len(a.all) == 0 {
		return nil
	}
	first := spot{len(a.spans), 0}
	for _, d := range a.all {
		if d.branch.compare(first) < 0 {
			first = d.branch
		}
	}
	for i, span := range a.spans {
		if i < first.span {
			continue
		}
		if i == first.span {
			span.from = max(span.from, first.offset)
		}
		err := a.store.delivered(span, func(offset int64, key sqlsource.Key, _ digest, deleted bool) {
			d := a.all[key]
			later := d != nil && d.branch.compare(spot{i, offset}) <= 0
			switch {
			case later && deleted:
				*d = delivery{deleted: true, sent: true, branch: d.branch}
			case later:
				delete(a.all, key)
			case d != nil && deleted:
				d.merge(digest{}, true, d.branch)
			}
		})
		if err != nil {
			return a.store.lost(span.name, err)
		}
	}
	return nil
}

// delivered calls f for each key of a span that a batch has delivered. If to is 0, the span ends where the segment does.
func (s *store) delivered(of span, f func(offset int64, key sqlsource.Key, of digest, deleted bool)) (err error) {
	file, err := s.dir.open(of.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var buf []byte
	for offset := of.from; of.to == 0 || offset < of.to; {
		b, err := readBlock(file, of.segment, offset, buf)
		if err != nil {
			return err
		}
		buf = b.payload
		if b.kind == kindDeleted {
			for p := b.payload; len(p) > 0; {
				n, used := binary.Uvarint(p)
				if used <= 0 || n > uint64(len(p)-used) {
					return errDamaged
				}
				f(offset, sqlsource.Key(p[used:used+int(n)]), digest{}, true)
				p = p[used+int(n):]
			}
		} else if err := deliveredEntries(b, func(e entry) { f(offset, e.key, e.digest, false) }); err != nil {
			return err
		}
		offset = b.next
	}
	return nil
}

// deliveredEntries calls f for the entries of a block that were delivered.
func deliveredEntries(b block, f func(entry)) error {
	entries, runs, err := parseEntries(b)
	for delivered := false; len(runs) > 0 && err == nil; delivered = !delivered {
		n, used := binary.Uvarint(runs)
		if used <= 0 || n > uint64(len(entries)) {
			return errDamaged
		}
		for _, e := range entries[:n] {
			if delivered {
				f(e)
			}
		}
		runs, entries = runs[used:], entries[n:]
	}
	return err
}

// correction is a change of a key that the merge does not meet: a delete, unless it has a row.
type correction struct {
	key sqlsource.Key
	row *row.Row
}

// correct returns the next correction. The first call finds out which unsure keys no row has: these are deleted before
// rows are inserted, whose keys can be equal to theirs in a collation.
func (p *pass) correct(ctx context.Context) (c row.Change, err error) {
	if !p.asked {
		_, err := p.lookUp(ctx, func(key sqlsource.Key) {
			p.extra = append(p.extra, correction{key: key})
			*p.unsure[key] = delivery{deleted: true, sent: true}
		})
		if err != nil {
			return c, err
		}
		p.asked = true
	}
	if len(p.extra) == 0 {
		return c, nil
	}
	x := p.extra[0]
	p.extra = p.extra[1:]
	if x.row == nil {
		return p.deleted(x.key)
	}
	p.use(x.row.Columns())
	if _, err := p.deleted(x.key); err != nil { // it has an entry already: this moves the cursor
		return c, err
	}
	if p.index != nil {
		p.unkeyed = ""
	}
	return row.Change{Op: row.Upsert, Table: p.source.Table.Name, Row: *x.row}, nil
}

// lookUp looks up the rows of the unsure keys, and calls absent for those that no row has. It returns the
// rows whose keys are only equal to one of them.
func (p *pass) lookUp(ctx context.Context, absent func(sqlsource.Key)) (respelled []correction, err error) {
	var keys []sqlsource.Key
	for key, d := range p.unsure {
		if !d.settled() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for some := range slices.Chunk(keys, p.source.tuning.lookup) {
		rows, found, err := p.table.FetchRows(ctx, some)
		if err != nil {
			return nil, err
		}
		exists := map[sqlsource.Key]bool{}
		for i, key := range found {
			exists[key] = true
			if _, ok := slices.BinarySearch(some, key); !ok {
				respelled = append(respelled, correction{key, &rows[i]})
			}
		}
		for _, key := range some {
			if !exists[key] {
				absent(key)
			}
		}
	}
	return respelled, nil
}

// correctRest queues the corrections of the unsure keys that the whole merge has not met: their rows were deleted, or have moved,
// since it was asked for them. Rows that have taken their place in the collation follow, if the merge has met them.
func (p *pass) correctRest(ctx context.Context) error {
	respelled, err := p.lookUp(ctx, func(sqlsource.Key) {})
	if err != nil {
		return err
	}
	p.present = map[sqlsource.Key]*standing{}
	for _, x := range respelled {
		p.present[x.key] = &standing{}
	}
	for key, d := range p.unsure {
		if !d.settled() {
			p.present[key] = &standing{}
		}
	}
	if err := p.findStanding(); err != nil {
		return err
	}
	for key := range p.unsure {
		if s := p.present[key]; s != nil && !s.written {
			p.extra = append(p.extra, correction{key: key})
		}
	}
	slices.SortFunc(p.extra, func(a, b correction) int { return cmp.Compare(a.key, b.key) })
	for _, x := range respelled {
		if p.present[x.key].written {
			p.extra = append(p.extra, x)
		}
	}
	p.unsure = nil
	return nil
}
