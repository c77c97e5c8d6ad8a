package xminsource

import (
	"errors"
	"strconv"
	"strings"
)

// adopt returns what a cursor knows together with the keys of batches that were fetched after it, and whose cursors may not
// have been saved: a sink that does not store the cursor with the records may have such a batch, after a crash. The keys are
// copied, because what is left of the segments need not be on disk.
func (s *store) adopt(k known) (known, error) {
	id := listID{k.lineage, k.pass}
	names, err := s.dir.List()
	if err != nil {
		return k, s.wrap("read", err)
	}
	var w *keyWriter
	for _, name := range names {
		of, ok := parseName(name)
		if !ok || of != id {
			continue
		}
		err := s.after(name, k.keys, func(h header, key []byte) error {
			if w == nil {
				w = s.create(id, k.keys, h.Kinds)
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

// after calls f with each key that a segment adds to a list at a place, if it does. A block that a crash has cut off was never
// returned by a Fetch.
func (s *store) after(name string, end listPlace, f func(header, []byte) error) error {
	segment, err := strconv.ParseUint(name[strings.LastIndexByte(name, '-')+1:len(name)-len(suffix)], 16, 64)
	if err != nil {
		return err
	}
	file, err := s.dir.open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	h, at, err := readHeader(file, segment)
	if errors.Is(err, errDamaged) {
		return nil
	}
	from, err2 := h.parent()
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	switch {
	case segment == end.segment:
		at = end
	case from != end || h.Whole:
		return nil
	}
	for buf, rest := []byte(nil), []byte(nil); ; {
		var n uint32
		if buf, n, at, err = readBlock(file, at, buf); errors.Is(err, errDamaged) {
			return nil
		}
		for rest = buf; len(rest) > 0 && n&repeated == 0 && err == nil; {
			var key []byte
			if key, rest, err = cutKey(rest); err == nil {
				err = f(h, key)
			}
		}
		if err != nil {
			return err
		}
	}
}
