package diffsource

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// ErrState is wrapped by the error of a Fetch that does not find the state that belongs to its cursor,
// or finds it damaged. Retrying does not help.
var ErrState = errors.New("the state that belongs to the cursor is not in the directory")

// store has the segments of all passes.
type store struct {
	dir   statedir.Dir
	path  string
	table string

	random func() uint64
}

// segmentName returns the name of a segment's file.
func segmentName(lineage, pass, segment uint64) string {
	return fmt.Sprintf("%016x-%d-%016x.state", lineage, pass, segment)
}

// parseName returns the arguments of segmentName, and false if the name is not that of a segment.
func parseName(name string) (lineage, pass, segment uint64, ok bool) {
	parts := strings.Split(strings.TrimSuffix(name, ".state"), "-")
	if len(parts) != 3 {
		return 0, 0, 0, false
	}
	lineage, err1 := strconv.ParseUint(parts[0], 16, 64)
	pass, err2 := strconv.ParseUint(parts[1], 10, 64)
	segment, err3 := strconv.ParseUint(parts[2], 16, 64)
	return lineage, pass, segment, errors.Join(err1, err2, err3) == nil && segmentName(lineage, pass, segment) == name
}

// lost returns the error of a segment that cannot be used, and other errors as they are.
func (s *store) lost(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return retry.Permanent(fmt.Errorf("diffsource: %s: %w (%s: %w): put its files back, or %s", s.path, ErrState, name, err, startOver))
	}
	return fmt.Errorf("diffsource: %s: %w", s.path, err)
}

// clean removes the segments of a lineage's passes before one, and, when the lineage has come to its fourth
// pass, those of other lineages.
func (s *store) clean(lineage, pass uint64) error {
	names, err := s.dir.List()
	for _, name := range names {
		of, n, _, ok := parseName(name)
		if ok && (of == lineage && n < pass || of != lineage && pass > 3) {
			err = errors.Join(err, s.dir.Remove(name))
		}
	}
	return err
}

// chain is the state up to a place, as it is read.
type chain struct {
	store *store
	kinds []int // of the key, nil if they are not known
	spans []span
	file  statedir.File // of the first span, if it is open
	buf   []byte
	skip  uint64  // how many entries are not returned
	queue []entry // read and not taken yet
}

// span is a part of a chain: the blocks of a segment between two offsets.
type span struct {
	name     string
	segment  uint64
	from, to int64
}

// open returns the state of a pass up to a place, without its first entries.
func (s *store) open(lineage, pass uint64, end place, skip uint64) (*chain, error) {
	c := &chain{store: s, skip: skip}
	for end.segment != 0 {
		name := segmentName(lineage, pass, end.segment)
		h, first, err := s.readHeader(name, end.segment)
		if err != nil {
			return nil, s.lost(name, err)
		}
		if h.Kinds != nil {
			c.kinds = h.Kinds
		}
		c.spans = append(c.spans, span{name, end.segment, first, end.offset})
		if end = (place{}); h.Parent != "" {
			end.offset = h.Offset
			if end.segment, err = strconv.ParseUint(h.Parent, 16, 64); err != nil {
				return nil, s.lost(name, fmt.Errorf("%w: %w", errDamaged, err))
			}
		}
	}
	slices.Reverse(c.spans)
	return c, nil
}

func (s *store) readHeader(name string, segment uint64) (h header, first int64, err error) {
	f, err := s.dir.Read(name)
	if err != nil {
		return h, 0, err
	}
	b, err := readBlock(f, segment, 0, nil)
	if err == nil && b.kind != kindHeader {
		err = errDamaged
	}
	if err == nil {
		if json.Unmarshal(b.payload, &h) != nil {
			err = errDamaged
		}
	}
	return h, b.next, errors.Join(err, f.Close())
}

// fill reads until n entries are queued, and reports whether they are.
func (c *chain) fill(n int) (bool, error) {
	for len(c.queue) < n && len(c.spans) > 0 {
		s := &c.spans[0]
		if s.from >= s.to {
			if err := c.close(); err != nil {
				return false, err
			}
			c.spans = c.spans[1:]
			continue
		}
		if err := c.read(s); err != nil {
			return false, c.store.lost(s.name, err)
		}
	}
	return len(c.queue) >= n, nil
}

// read reads the next block of a span, unless it is skipped.
func (c *chain) read(s *span) (err error) {
	if c.file == nil {
		if c.file, err = c.store.dir.Read(s.name); err != nil {
			return err
		}
	}
	head, _, err := readHead(c.file, s.from)
	if err != nil {
		return err
	}
	end := head.before + uint64(head.count)
	if head.count > 0 && end > c.skip {
		b, err := readBlock(c.file, s.segment, s.from, c.buf)
		if err != nil {
			return err
		}
		c.buf = b.payload
		entries, _, err := parseEntries(b)
		if err != nil {
			return err
		}
		if b.before < c.skip {
			entries = entries[c.skip-b.before:]
		}
		if len(c.queue) == 0 {
			c.queue = entries
		} else {
			c.queue = append(c.queue, entries...)
		}
	}
	if s.from = head.next; s.from > s.to {
		return errDamaged
	}
	return nil
}

func (c *chain) pop(n int) {
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
}

func (c *chain) close() error {
	if c == nil || c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// parseEntries returns the entries of a block, and the runs after them. Their keys share memory.
func parseEntries(b block) (entries []entry, runs []byte, err error) {
	entries = make([]entry, 0, b.count)
	var text []byte
	var ends []int
	p := b.payload
	for range b.count {
		var size int
		if b.kind == kindInteger {
			if size = 8; len(p) >= size {
				text = append(strconv.AppendInt(append(text, 'i'), int64(binary.BigEndian.Uint64(p)), 10), ';')
			}
		} else {
			n, used := binary.Uvarint(p)
			if used <= 0 || n > uint64(len(p)) {
				return nil, nil, errDamaged
			}
			p, size = p[used:], int(n)
			text = append(text, p[:min(size, len(p))]...)
		}
		if len(p) < size+len(digest{}) {
			return nil, nil, errDamaged
		}
		ends = append(ends, len(text))
		entries = append(entries, entry{digest: digest(p[size : size+len(digest{})])})
		p = p[size+len(digest{}):]
	}
	all, start := string(text), 0
	for i, end := range ends {
		entries[i].key = sqlsource.Key(all[start:end])
		start = end
	}
	return entries, p, nil
}

// create returns a writer that continues the state at a cursor.
func (s *store) create(c cursor) *writer {
	w := &writer{dir: s.dir, before: c.entries, header: header{Table: s.table}}
	for w.segment == 0 {
		w.segment = s.random()
	}
	w.name = segmentName(c.lineage, c.pass, w.segment)
	if c.state.segment != 0 {
		w.header.Parent, w.header.Offset = strconv.FormatUint(c.state.segment, 16), c.state.offset
	}
	return w
}

// verify returns an error unless the state of the cursor's pass exists.
func (s *store) verify(at cursor) error {
	c, err := s.open(at.lineage, at.pass, at.state, at.entries)
	if err != nil {
		return err
	}
	_, err = c.fill(1)
	return errors.Join(err, c.close())
}

// each calls f for the entries of a state, except for the first ones, and their numbers.
func (s *store) each(ctx context.Context, lineage, pass uint64, end place, skip uint64, f func(uint64, entry)) error {
	c, err := s.open(lineage, pass, end, skip)
	if err != nil {
		return err
	}
	for n := skip; ; n++ {
		if len(c.queue) == 0 && ctx.Err() != nil {
			return errors.Join(ctx.Err(), c.close())
		}
		if more, err := c.fill(1); err != nil || !more {
			return errors.Join(err, c.close())
		}
		f(n, c.queue[0])
		c.pop(1)
	}
}
