package xminsource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// ErrKeys is wrapped by the error of a Fetch that does not find the list of delivered keys that belongs to its cursor, or
// finds it damaged. Retrying does not help.
var ErrKeys = errors.New("the list of delivered keys that belongs to the cursor is not in the directory")

const (
	keysAdvice = "put its files back; or start over with an empty checkpoint, which reads all rows again; " + copyAdvice
	copyAdvice = "empty the copy too, or compare it with package diffsource, because no deletes from before come"
)

// store has the lists of keys.
type store struct {
	dir    statedir.Dir
	path   string
	random func() uint64

	out *keyWriter // to which the last keys were added; nil: none
}

// listID says which key pass a list belongs to.
type listID struct{ lineage, pass uint64 }

const suffix = ".keys"

func segmentName(id listID, segment uint64) string {
	return fmt.Sprintf("%016x-%d-%016x%s", id.lineage, id.pass, segment, suffix)
}

// parseName returns the list that a file belongs to, and false if the name is not that of a segment.
func parseName(name string) (id listID, ok bool) {
	parts := strings.Split(strings.TrimSuffix(name, suffix), "-")
	if len(parts) != 3 {
		return id, false
	}
	lineage, err1 := strconv.ParseUint(parts[0], 16, 64)
	pass, err2 := strconv.ParseUint(parts[1], 10, 64)
	segment, err3 := strconv.ParseUint(parts[2], 16, 64)
	id = listID{lineage, pass}
	return id, errors.Join(err1, err2, err3) == nil && segmentName(id, segment) == name
}

// create returns a writer that continues a list at a place.
func (s *store) create(id listID, from listPlace, kinds []int) *keyWriter {
	w := &keyWriter{dir: s.dir, of: id, header: header{Kinds: kinds}}
	for w.at.segment == 0 {
		w.at.segment = s.random()
	}
	w.name = segmentName(id, w.at.segment)
	if from.segment != 0 {
		w.header.Parent, w.header.Offset = strconv.FormatUint(from.segment, 16), from.offset
	}
	return w
}

// add adds keys to the list of a cursor, and makes them durable. The list stays as it is up to the place of the cursor, so
// that the cursor can be used again. The mark is [repeated] or 0.
func (s *store) add(k known, keys []sqlsource.Key, kinds []int, mark uint32) (known, error) {
	if len(keys) == 0 {
		return k, nil
	}
	id := listID{k.lineage, k.pass}
	if s.out == nil || s.out.of != id || s.out.at != k.keys || !slices.Equal(s.out.header.Kinds, kinds) {
		s.use(s.create(id, k.keys, kinds))
	}
	var err error
	s.out.mark = mark
	for _, key := range keys {
		if err = s.out.add([]byte(key)); err != nil {
			break
		}
	}
	if err == nil {
		k.keys, err = s.out.sync()
	}
	if err != nil {
		s.use(nil) // how much of them was written is not known
		return k, s.wrap("write", err)
	}
	k.entries += uint64(len(keys))
	return k, nil
}

// use makes a writer the one to which keys are added.
func (s *store) use(w *keyWriter) {
	s.out.close()
	s.out = w
}

func (s *store) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the list of keys in %s: %w", what, s.path, err)
}

// lost returns the error of a segment that cannot be used, and other errors as they are.
func (s *store) lost(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return retry.Permanent(fmt.Errorf("%s: %w (%s: %w): %s", s.path, ErrKeys, name, err, keysAdvice))
	}
	return s.wrap("read", err)
}

// span is a part of a list: the blocks of a segment up to a place.
type span struct {
	name     string
	from, to listPlace
}

// keyReader reads a list from its begin.
type keyReader struct {
	store *store
	kinds []int // of the columns of the key; nil: the list is empty
	spans []span
	links int // how many segments the list has

	file    statedir.File // of the first span, if it is open
	buf     []byte
	payload []byte // the rest of the block
}

// open returns a reader of the list up to a place. It finds all segments, and that none is too short.
func (s *store) open(id listID, end listPlace) (*keyReader, error) {
	r := &keyReader{store: s}
	for end.segment != 0 {
		name := segmentName(id, end.segment)
		h, first, err := s.look(name, end)
		if err != nil {
			return nil, s.lost(name, err)
		}
		r.spans = append(r.spans, span{name, first, end})
		if r.kinds == nil {
			r.kinds = h.Kinds
		}
		if end, err = h.parent(); err != nil {
			return nil, s.lost(name, err)
		}
	}
	r.links = len(r.spans)
	slices.Reverse(r.spans)
	return r, nil
}

// look reads the header of a segment, and the last byte before a place.
func (s *store) look(name string, end listPlace) (h header, first listPlace, err error) {
	f, err := s.dir.Read(name)
	if err != nil {
		return h, first, err
	}
	h, first, err = readHeader(f, end.segment)
	if err == nil {
		err = readAt(f, make([]byte, 1), end.offset-1)
	}
	return h, first, errors.Join(err, f.Close())
}

// next returns the next key, which is valid until the next call. The error at the end is io.EOF.
func (r *keyReader) next() (key []byte, err error) {
	for len(r.payload) == 0 {
		if len(r.spans) == 0 {
			return nil, io.EOF
		}
		s := &r.spans[0]
		if s.from == s.to {
			r.close()
			r.spans = r.spans[1:]
			continue
		}
		if r.file == nil {
			if r.file, err = r.store.dir.Read(s.name); err != nil {
				return nil, r.store.lost(s.name, err)
			}
		}
		if r.payload, _, s.from, err = readBlock(r.file, s.from, r.buf); err == nil && s.from.offset > s.to.offset {
			err = errDamaged
		}
		if err != nil {
			return nil, r.store.lost(s.name, err)
		}
		r.buf = r.payload
	}
	if key, r.payload, err = cutKey(r.payload); err != nil {
		return nil, r.store.lost(r.spans[0].name, err)
	}
	return key, nil
}

// each calls f with each key.
func (r *keyReader) each(f func(key []byte) error) error {
	defer r.close()
	for {
		key, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(key)
		}
		if err != nil {
			return err
		}
	}
}

func (r *keyReader) close() {
	if r != nil && r.file != nil {
		_ = r.file.Close() // it was only read
		r.file = nil
	}
}

// clean removes the lists of key passes before one, and from the first key pass on also those of other lineages.
func (s *store) clean(id listID) error {
	names, err := s.dir.List()
	for _, name := range names {
		of, ok := parseName(name)
		if ok && (of.lineage == id.lineage && of.pass < id.pass || of.lineage != id.lineage && id.pass > 0) {
			err = errors.Join(err, s.dir.Remove(name))
		}
	}
	return s.wrap("remove what is old of", err)
}

// sweepScratch removes the scratch files of a process that died.
func (s *store) sweepScratch() error {
	names, err := s.dir.List()
	for _, name := range names {
		if strings.HasSuffix(name, scratchSuffix) {
			err = errors.Join(err, s.dir.Remove(name))
		}
	}
	return s.wrap("remove what is old of", err)
}
