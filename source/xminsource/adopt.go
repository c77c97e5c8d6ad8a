package xminsource

import (
	"errors"
	"strconv"
)

// adopt returns what a cursor knows together with the keys of batches that were fetched after it, and whose cursors may not
// have been saved: a sink that does not store the cursor with the records may have such a batch, after a crash. The
// list goes on with a segment that names them.
func (s *store) adopt(k known) (known, error) {
	id := listID{k.lineage, k.pass}
	names, err := s.dir.List()
	if err != nil {
		return k, s.wrap("read", err)
	}
	w := s.create(id, k.keys, nil)
	for _, name := range names {
		if of, ok := parseName(name); !ok || of != id {
			continue
		}
		h, p, keys, err := s.after(name, k.keys)
		if err != nil {
			return k, s.wrap("read", err)
		}
		if keys > 0 {
			w.header.Also, w.header.Kinds = append(w.header.Also, p), h.Kinds
			k.entries += keys
		}
	}
	if w.header.Also == nil {
		return k, nil
	}
	s.use(w)
	if err = w.create(); err == nil {
		k.keys, err = w.sync()
	}
	if err != nil {
		s.use(nil)
	}
	return k, s.wrap("write", err)
}

// after returns the part of a segment that continues a list at a place, and how many keys it has, 0 if it is no
// continuation. A block that a crash has cut off was never returned by a Fetch.
func (s *store) after(name string, end listPlace) (h header, p part, keys uint64, err error) {
	p.Segment = name[len(name)-len(suffix)-16 : len(name)-len(suffix)]
	segment, err := strconv.ParseUint(p.Segment, 16, 64)
	if err != nil {
		return h, p, 0, err
	}
	f, err := s.dir.open(name)
	if err != nil {
		return h, p, 0, err
	}
	defer f.Close()
	h, at, err := readHeader(f, segment)
	if errors.Is(err, errDamaged) {
		return h, p, 0, nil
	}
	from, err2 := h.parent()
	if err = errors.Join(err, err2); err != nil {
		return h, p, 0, err
	}
	switch {
	case segment == end.segment:
		at = end
	case from != end || h.Whole:
		return h, p, 0, nil
	}
	var buf []byte
	for p.From, p.To = at.offset, at.offset; ; p.To = at.offset {
		var n uint32
		if buf, n, at, err = readBlock(f, at, buf); errors.Is(err, errDamaged) {
			return h, p, keys, nil
		} else if err != nil {
			return h, p, 0, err
		}
		if n&repeated == 0 {
			keys += uint64(n)
		}
	}
}
