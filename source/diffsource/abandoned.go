package diffsource

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// delivery is what batches say of a key that were fetched, but whose cursors were not saved. The sink may have
// each of them, or not.
type delivery struct {
	digest  digest // of the row
	deleted bool   // instead of a row
	mixed   bool   // the batches differ
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
func (s *store) abandoned(ctx context.Context, lineage, pass uint64, end place) (all map[sqlsource.Key]*delivery, kinds []int, err error) {
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
		if err := a.collect(ctx, span, spot{i, span.from}); err != nil {
			return nil, nil, err
		}
	}
	for _, span := range off {
		if err := a.collect(ctx, span, a.branch(span.segment)); err != nil {
			return nil, nil, err
		}
	}
	return a.all, kinds, a.resolve(ctx)
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
func (a *abandoned) collect(ctx context.Context, s span, branch spot) error {
	err := a.store.walk(ctx, s, func(_ int64, e entry, c content) {
		d, deleted := a.all[e.key], c == deletedKey
		switch {
		case c == comparedRow:
		case d != nil:
			d.merge(e.digest, deleted, branch)
		default:
			a.all[e.key] = &delivery{digest: e.digest, deleted: deleted, branch: branch}
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

// resolve removes the keys that the chain has compared since, or has delivered as deleted.
func (a *abandoned) resolve(ctx context.Context) error {
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
		err := a.store.walk(ctx, span, func(offset int64, e entry, _ content) {
			if d := a.all[e.key]; d != nil && d.branch.compare(spot{i, offset}) <= 0 {
				delete(a.all, e.key)
			}
		})
		if err != nil {
			return a.store.lost(span.name, err)
		}
	}
	return nil
}

// content is what a segment says of a key.
type content int

const (
	comparedRow  content = iota // its row is as the copy has it
	deliveredRow                // its row was delivered
	deletedKey                  // it was delivered as deleted
)

// walk calls f for each key of a span. If to is 0, the span ends where the segment does.
func (s *store) walk(ctx context.Context, of span, f func(offset int64, e entry, c content)) (err error) {
	file, err := s.dir.Read(of.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var buf []byte
	for offset := of.from; of.to == 0 || offset < of.to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := readBlock(file, of.segment, offset, buf)
		if err != nil {
			return err
		}
		buf = b.payload
		each := func(e entry, c content) { f(offset, e, c) }
		if b.kind == kindDeleted {
			err = walkDeleted(b, each)
		} else {
			err = walkEntries(b, each)
		}
		if err != nil {
			return err
		}
		offset = b.next
	}
	return nil
}

// walkDeleted calls f for the keys of a block that were delivered as deleted.
func walkDeleted(b block, f func(entry, content)) error {
	for p := b.payload; len(p) > 0; {
		n, used := binary.Uvarint(p)
		if used <= 0 || n > uint64(len(p)-used) {
			return errDamaged
		}
		f(entry{key: sqlsource.Key(p[used : used+int(n)])}, deletedKey)
		p = p[used+int(n):]
	}
	return nil
}

// walkEntries calls f for the entries of a block.
func walkEntries(b block, f func(entry, content)) error {
	entries, runs, err := parseEntries(b)
	if err != nil {
		return err
	}
	for c := comparedRow; len(entries) > 0; c = deliveredRow - c {
		n := uint64(len(entries)) // after the last run that was delivered
		if len(runs) > 0 {
			var used int
			if n, used = binary.Uvarint(runs); used <= 0 || n > uint64(len(entries)) {
				return errDamaged
			}
			runs = runs[used:]
		}
		for _, e := range entries[:n] {
			f(e, c)
		}
		entries = entries[n:]
	}
	return nil
}
