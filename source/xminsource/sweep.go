package xminsource

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"math"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/sink/durable"
)

// sweep is a key pass: it finds the delivered keys that a read of the table's keys does not show. It writes the digests of the
// keys that the table shows to scratch files, in parts of which each fits into memory, and then compares part by part. What it
// finds need not be gone: each key is looked up before it counts.
type sweep struct {
	store *store
	began uint64 // in Unix milliseconds
	asOf  uint64 // by the server's clock, 0: not known
	mark  uint64 // of the server's log; each page is read on a server that has replayed it
	types []keyColumn

	durable uint64 // a part of the log that no crash takes back; the missing keys are looked up on a server that has replayed it

	parts uint32
	seeds [2]maphash.Seed
	seen  []*scratch // the digests of the table's keys
	after []string   // the key of the last one
	page  int        // how many keys are read next
	ended bool
	merge *merge // nil: the comparison has not begun
	set   digests
}

const (
	partKeys      = 1 << 19 // about how many keys a part has
	maxParts      = 256
	scratchSuffix = ".scratch"
)

// digest is a digest of a packed key. It is never zero.
type digest [2]uint64

func newSweep(s *store, k known) (*sweep, error) {
	w := &sweep{store: s, parts: uint32(min(1+k.entries/partKeys, maxParts)), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, page: firstPage}
	for range w.parts {
		f, err := newScratch(s)
		if err != nil {
			w.close()
			return nil, err
		}
		w.seen = append(w.seen, f)
	}
	return w, nil
}

// see notes a key that the table shows.
func (w *sweep) see(packed []byte) error {
	var record [16]byte
	d := w.digest(packed)
	binary.LittleEndian.PutUint64(record[:8], d[0])
	binary.LittleEndian.PutUint64(record[8:], d[1])
	_, err := w.seen[w.part(packed)].Write(record[:])
	return w.store.wrap("write the digests next to", err)
}

// part returns the part of a key. It is the same in another process, so that the order of the deletes is, too.
func (w *sweep) part(packed []byte) uint32 {
	if w.parts == 1 {
		return 0
	}
	return crc32.Checksum(packed, checksums) % w.parts
}

func (w *sweep) digest(packed []byte) digest {
	return digest{maphash.Bytes(w.seeds[0], packed) | 1, maphash.Bytes(w.seeds[1], packed)}
}

// close removes the scratch files.
func (w *sweep) close() {
	if w == nil {
		return
	}
	w.forget()
	for _, f := range w.seen {
		f.remove()
	}
}

// forget gives up the comparison. The digests of the table's keys stay.
func (w *sweep) forget() {
	if m := w.merge; m != nil {
		m.keys.close()
		m.gone.close()
		for _, f := range m.parts {
			f.remove()
		}
		w.merge = nil
	}
}

// merge compares the list of a cursor with the digests.
type merge struct {
	of     known
	parts  []*scratch // the keys of each part; nil: there is one part, which is the list
	counts []uint64
	next   uint32 // the part to compare
	keys   *keyWriter
	gone   *keyWriter
	links  int // how many segments the list has
}

// compare compares the list of a cursor with what the table shows. It goes on where the last call with this cursor was
// interrupted.
func (w *sweep) compare(ctx context.Context, k known) (*merge, error) {
	if w.merge == nil || w.merge.of != k {
		w.forget()
		if err := w.begin(ctx, k); err != nil {
			w.forget()
			return nil, err
		}
	}
	for m := w.merge; m.next < w.parts; m.next++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := w.comparePart(m, m.next); err != nil {
			w.forget() // how much of the part was written is not known
			return nil, err
		}
	}
	return w.merge, nil
}

// begin begins a comparison: it distributes the keys of the list.
func (w *sweep) begin(ctx context.Context, k known) error {
	for _, f := range w.seen {
		if err := f.flush(); err != nil {
			return w.store.wrap("write the digests next to", err)
		}
	}
	r, err := w.store.open(listID{k.lineage, k.pass}, k.keys)
	if err != nil {
		return err
	}
	next := listID{k.lineage, k.pass + 1}
	m := &merge{of: k, links: r.links, counts: make([]uint64, w.parts), keys: w.store.create(next, listPlace{}, r.kinds), gone: w.store.create(next, listPlace{}, r.kinds)}
	m.keys.header.Whole, m.gone.header.Whole = true, true
	if w.merge = m; w.parts == 1 {
		m.counts[0] = k.entries
		return nil
	}
	for range w.parts {
		f, err := newScratch(w.store)
		if err != nil {
			return err
		}
		m.parts = append(m.parts, f)
	}
	var packed, length []byte
	n := 0
	err = r.each(func(key []byte) (err error) {
		if n++; n%(1<<16) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if packed, err = pack(packed[:0], key); err != nil {
			return err
		}
		p := w.part(packed)
		m.counts[p]++
		length = binary.AppendUvarint(length[:0], uint64(len(key)))
		_, err1 := m.parts[p].Write(length)
		_, err2 := m.parts[p].Write(key)
		return w.store.wrap("write a part of", errors.Join(err1, err2))
	})
	for _, f := range m.parts {
		err = errors.Join(err, f.flush())
	}
	return err
}

// comparePart adds each key of a part to one of the two lists, once: as it was delivered last, because the type of its column
// may have changed.
func (w *sweep) comparePart(m *merge, part uint32) error {
	set := &w.set
	set.clear(m.counts[part])
	var packed []byte
	entry := func(f func(key []byte, n, i uint32) error) error {
		n := uint32(0)
		return w.eachOf(m, part, func(key []byte) (err error) {
			if packed, err = pack(packed[:0], key); err != nil {
				return err
			}
			n++
			return f(key, n, set.find(w.digest(packed)))
		})
	}
	if err := entry(func(_ []byte, n, i uint32) error { set.last[i] = n; return nil }); err != nil {
		return err
	}
	if err := w.seen[part].each(16, func(r *bufio.Reader) error {
		var record [16]byte
		_, err := io.ReadFull(r, record[:])
		if err == nil {
			set.mark(digest{binary.LittleEndian.Uint64(record[:8]), binary.LittleEndian.Uint64(record[8:])})
		}
		return err
	}); err != nil {
		return w.store.wrap("read the digests next to", err)
	}
	return entry(func(key []byte, n, i uint32) error {
		switch set.last[i] {
		case n:
			return w.store.wrap("write", m.gone.add(key))
		case n | seen:
			return w.store.wrap("write", m.keys.add(key))
		}
		return nil
	})
}

// eachOf calls f with each key of a part.
func (w *sweep) eachOf(m *merge, part uint32, f func(key []byte) error) error {
	if m.parts == nil {
		r, err := w.store.open(listID{m.of.lineage, m.of.pass}, m.of.keys)
		if err != nil {
			return err
		}
		return r.each(f)
	}
	var key []byte
	return m.parts[part].each(1, func(r *bufio.Reader) error {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		key = append(key[:0], make([]byte, n)...)
		if _, err = io.ReadFull(r, key); err != nil {
			return err
		}
		return f(key)
	})
}

// digests is a set of digests of keys.
type digests struct {
	slots []digest
	last  []uint32 // the number of the last entry that has the key; marked with seen if the table shows the key
}

const seen = 1 << 31

// clear empties the set, and makes room for n digests.
func (s *digests) clear(n uint64) {
	size := uint64(16)
	for size*2 < n*3 {
		size *= 2
	}
	if uint64(len(s.slots)) < size {
		s.slots, s.last = make([]digest, size), make([]uint32, size)
		return
	}
	clear(s.slots)
	clear(s.last)
}

// find returns the place of a digest, and adds the digest if it is not there.
func (s *digests) find(d digest) uint32 {
	i := s.slot(d)
	s.slots[i] = d
	return i
}

// mark marks a digest as seen, if it is there.
func (s *digests) mark(d digest) {
	if i := s.slot(d); s.slots[i] == d {
		s.last[i] |= seen
	}
}

func (s *digests) slot(d digest) uint32 {
	mask := uint64(len(s.slots) - 1)
	for i := d[1] & mask; ; i = (i + 1) & mask {
		if s.slots[i] == d || s.slots[i] == (digest{}) {
			return uint32(i)
		}
	}
}

// scratch is a file that is not needed after the process has ended.
type scratch struct {
	dir  statedir.Dir
	name string
	file durable.File // nil: it is closed
	*bufio.Writer
}

func newScratch(s *store) (*scratch, error) {
	f := &scratch{dir: s.dir, name: fmt.Sprintf("%016x%s", s.random(), scratchSuffix)}
	file, err := s.dir.Create(f.name)
	f.file, f.Writer = file, bufio.NewWriterSize(file, 32<<10)
	return f, s.wrap("create a file next to", err)
}

// flush writes all of the file, and closes it.
func (f *scratch) flush() error {
	if f.file == nil {
		return nil
	}
	err := errors.Join(f.Flush(), f.file.Close())
	f.file = nil
	return err
}

// each calls f with a reader of the file until its end. A record has at least size bytes.
func (f *scratch) each(size int, next func(*bufio.Reader) error) error {
	file, err := f.dir.Read(f.name)
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(file, 0, math.MaxInt64), 64<<10)
	for err == nil {
		if _, err = r.Peek(size); err == nil {
			err = next(r)
		}
	}
	if errors.Is(err, io.EOF) && r.Buffered() == 0 {
		err = nil
	}
	return errors.Join(err, file.Close())
}

func (f *scratch) remove() {
	if f.file != nil {
		_ = f.file.Close() // nobody reads it
	}
	_ = f.dir.Remove(f.name) // otherwise it is removed when the directory is opened
}
