package xminsource

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// adopt returns what a cursor knows together with the keys of batches that were fetched after it, and whose cursors may not
// have been saved: a sink that does not store the cursor with the records may have such a batch, after a crash. The keys are
// copied, because what is left of the segments need not be on disk.
func (s *store) adopt(k known) (known, error) {
	id := listID{k.lineage, k.pass}
	left, err := s.segments(id)
	if err != nil {
		return k, s.wrap("read", err)
	}
	var w *keyWriter
	for _, g := range left {
		from := g.first
		switch {
		case g.first.segment == k.keys.segment:
			from = k.keys
		case !left.follows(g, k.keys):
			continue
		}
		err := s.eachAfter(g.name, from, func(key []byte) error {
			if w == nil {
				w = s.create(id, k.keys, g.Kinds)
				w.mark = repeated
			}
			return w.add(key)
		})
		if err != nil {
			w.close()
			return k, s.wrap("read", err)
		}
	}
	if w == nil {
		return k, nil
	}
	s.use(w)
	if k.keys, err = w.sync(); err != nil {
		s.use(nil)
	}
	k.entries += w.count
	return k, s.wrap("write", err)
}

// leftover is a segment that is in the directory.
type leftover struct {
	header
	name  string
	first listPlace // after the header
	from  listPlace // the place that it continues
}

// leftovers are in the order of their names.
type leftovers []leftover

// segments reads the headers of the segments of a list. One that a crash has cut off has no keys.
func (s *store) segments(id listID) (all leftovers, err error) {
	names, err := s.dir.List()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		of, ok := parseName(name)
		if !ok || of != id {
			continue
		}
		g := leftover{name: name}
		segment, err := strconv.ParseUint(strings.TrimSuffix(name[strings.LastIndexByte(name, '-')+1:], suffix), 16, 64)
		if err != nil {
			return nil, err
		}
		file, err := s.dir.Read(name)
		if err != nil {
			return nil, err
		}
		if g.header, g.first, err = readHeader(file, segment); err == nil {
			g.from, err = g.parent()
		}
		if err = errors.Join(err, file.Close()); err != nil && !errors.Is(err, errDamaged) {
			return nil, err
		} else if err == nil {
			all = append(all, g)
		}
	}
	return all, nil
}

// follows reports whether a segment continues a list at a place, or after it.
func (all leftovers) follows(g leftover, end listPlace) bool {
	for !g.Whole {
		if g.from == end || g.from.segment == end.segment && g.from.offset > end.offset {
			return true
		}
		i := slices.IndexFunc(all, func(o leftover) bool { return o.first.segment == g.from.segment })
		if i < 0 || g.from.segment == end.segment {
			return false
		}
		g = all[i]
	}
	return false
}

// eachAfter calls f with each key of a segment after a place, but for repeated ones. A block that a crash has cut off was never
// returned by a Fetch.
func (s *store) eachAfter(name string, at listPlace, f func(key []byte) error) error {
	file, err := s.dir.Read(name)
	if err != nil {
		return err
	}
	defer file.Close()
	for buf, rest := []byte(nil), []byte(nil); ; {
		var n uint32
		if buf, n, at, err = readBlock(file, at, buf); errors.Is(err, errDamaged) {
			return nil
		}
		for rest = buf; len(rest) > 0 && n&repeated == 0 && err == nil; {
			var key []byte
			if key, rest, err = cutKey(rest); err == nil {
				err = f(key)
			}
		}
		if err != nil {
			return err
		}
	}
}
