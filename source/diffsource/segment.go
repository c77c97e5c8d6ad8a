package diffsource

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A state is a chain of segments. A segment is a file that is written once, from start to end. It
// consists of blocks: a head, and then a header (in the first block), entries in the order of the table, or keys
// that were delivered as deleted. A segment that continues another one names the place in it.
const (
	headSize  = 4 + 4 + 1 + 4 + 8 // length, checksum, kind, number of entries, entries before
	blockSize = 64 << 10          // a block ends when it has this many bytes
	maxBlock  = blockSize + 64<<10
)

// The kinds of blocks.
const (
	kindHeader  = 'h' // JSON
	kindInteger = 'i' // entries, whose key is one integer of 64 bits
	kindKey     = 'k' // entries, whose key is preceded by its length
	kindDeleted = 'd' // keys, each preceded by its length
)

// digest is a digest of a row's content. The zero digest stands for a row that cannot be read.
type digest [16]byte

// entry is the key and the digest of a row.
type entry struct {
	key    sqlsource.Key
	digest digest
}

// header is the first block of a segment.
type header struct {
	Table  string `json:"table"`
	Parent string `json:"parent,omitempty"` // the segment that this one continues, in hexadecimal
	Offset int64  `json:"offset,omitempty"` // and where in it
	Kinds  []int  `json:"kinds,omitempty"`  // of the columns of the key
}

var checksums = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the checksum of a block at an offset of a segment. It includes the place, so that a block
// at another place is noticed.
func checksum(segment uint64, offset int64, head, payload []byte) uint32 {
	var at [16]byte
	binary.BigEndian.PutUint64(at[:8], segment)
	binary.BigEndian.PutUint64(at[8:], uint64(offset))
	sum := crc32.Update(0, checksums, at[:])
	sum = crc32.Update(sum, checksums, head[:4])
	sum = crc32.Update(sum, checksums, head[8:])
	return crc32.Update(sum, checksums, payload)
}

// writer writes a segment. It creates the file with the first block.
type writer struct {
	dir     statedir.Dir
	name    string
	segment uint64
	header  header

	file   durable.File
	offset int64
	synced int64
	before uint64 // entries in front of the block
	count  uint32 // entries in the block
	kind   byte
	block  []byte // headSize bytes that are filled in later, then entries, and the runs

	runs       []byte // which entries of the block were delivered: how many were not, and then how many were, and so on
	run        uint64 // the length of the last run
	delivering bool   // the last run is of entries that were delivered
	deleted    []byte // the block of deleted keys
}

// add appends an entry. delivered is whether its row is a change of the batch.
func (w *writer) add(e entry, delivered bool) error {
	kind, number := byte(kindKey), int64(0)
	if text, ok := strings.CutPrefix(string(e.key), "i"); ok && strings.IndexByte(text, ';') == len(text)-1 {
		if n, err := strconv.ParseInt(text[:len(text)-1], 10, 64); err == nil {
			kind, number = kindInteger, n
		}
	}
	if kind != w.kind || len(w.block) >= blockSize {
		if err := w.flush(); err != nil {
			return err
		}
		w.kind = kind
	}
	if len(w.block) == 0 {
		w.block = append(w.block, make([]byte, headSize)...)
	}
	if kind == kindInteger {
		w.block = binary.BigEndian.AppendUint64(w.block, uint64(number))
	} else {
		w.block = append(binary.AppendUvarint(w.block, uint64(len(e.key))), e.key...)
	}
	w.block = append(w.block, e.digest[:]...)
	w.count++
	if delivered != w.delivering {
		w.endRun()
	}
	w.run++
	return nil
}

func (w *writer) endRun() {
	w.runs = binary.AppendUvarint(w.runs, w.run)
	w.run, w.delivering = 0, !w.delivering
}

// delete appends the key of a row that was delivered as deleted.
func (w *writer) delete(k sqlsource.Key) error {
	if len(w.deleted) == 0 {
		w.deleted = append(w.deleted, make([]byte, headSize)...)
	}
	w.deleted = append(binary.AppendUvarint(w.deleted, uint64(len(k))), k...)
	if len(w.deleted) < blockSize {
		return nil
	}
	return w.flush()
}

// flush writes the blocks.
func (w *writer) flush() error {
	if w.count == 0 && len(w.deleted) == 0 {
		return nil
	}
	if w.file == nil {
		if err := w.create(); err != nil {
			return err
		}
	}
	if w.count > 0 {
		if w.delivering {
			w.endRun()
		}
		count := w.count
		w.block, w.count = append(w.block, w.runs...), 0
		if err := w.write(w.kind, w.block, count); err != nil {
			return err
		}
		w.before += uint64(count)
		w.block, w.runs, w.run = w.block[:0], w.runs[:0], 0
	}
	if len(w.deleted) > 0 {
		if err := w.write(kindDeleted, w.deleted, 0); err != nil {
			return err
		}
		w.deleted = w.deleted[:0]
	}
	return nil
}

func (w *writer) create() (err error) {
	text, err := json.Marshal(w.header)
	if err != nil {
		return err
	}
	if w.file, err = w.dir.Create(w.name); err != nil {
		return err
	}
	return w.write(kindHeader, append(make([]byte, headSize), text...), 0)
}

func (w *writer) write(kind byte, block []byte, count uint32) error {
	head := block[:headSize]
	binary.BigEndian.PutUint32(head, uint32(len(block)-headSize))
	head[8] = kind
	binary.BigEndian.PutUint32(head[9:], count)
	binary.BigEndian.PutUint64(head[13:], w.before)
	binary.BigEndian.PutUint32(head[4:], checksum(w.segment, w.offset, head, block[headSize:]))
	n, err := w.file.Write(block)
	w.offset += int64(n)
	return err
}

// sync makes all entries durable and returns the place after them.
func (w *writer) sync() (place, error) {
	if err := w.flush(); err != nil {
		return place{}, err
	}
	if w.file != nil && w.synced < w.offset {
		if err := w.file.Sync(); err != nil {
			return place{}, err
		}
		if w.synced == 0 {
			if err := w.dir.Sync(); err != nil {
				return place{}, err
			}
		}
		w.synced = w.offset
	}
	return w.end()
}

// end returns the place after the entries written.
func (w *writer) end() (place, error) {
	if w.file != nil {
		return place{w.segment, w.offset}, nil
	}
	if w.header.Parent == "" {
		return place{}, nil
	}
	parent, err := strconv.ParseUint(w.header.Parent, 16, 64)
	return place{parent, w.header.Offset}, err
}

// entries returns how many entries the state has.
func (w *writer) entries() uint64 { return w.before + uint64(w.count) }

func (w *writer) close() error {
	if w == nil || w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// errDamaged is wrapped by the error of a segment whose content has changed since it was written.
var errDamaged = errors.New("it is damaged")

// block is a block that was read.
type block struct {
	kind    byte
	count   uint32
	before  uint64
	payload []byte // nil if only the head was read
	next    int64  // the offset of the next block
}

// readHead reads the head of the block at an offset. It does not check the sum.
func readHead(f statedir.File, offset int64) (b block, head [headSize]byte, err error) {
	if err = readAt(f, head[:], offset); err != nil {
		return b, head, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxBlock {
		return b, head, fmt.Errorf("%w at byte %d", errDamaged, offset)
	}
	b = block{kind: head[8], count: binary.BigEndian.Uint32(head[9:]), before: binary.BigEndian.Uint64(head[13:]), next: offset + headSize + int64(size)}
	return b, head, nil
}

// readBlock reads the block at an offset, into buf if it is large enough.
func readBlock(f statedir.File, segment uint64, offset int64, buf []byte) (block, error) {
	b, head, err := readHead(f, offset)
	if err != nil {
		return b, err
	}
	size := int(b.next - offset - headSize)
	if cap(buf) < size {
		buf = make([]byte, size, size+size/8)
	}
	b.payload = buf[:size]
	if err := readAt(f, b.payload, offset+headSize); err != nil {
		return b, err
	}
	if checksum(segment, offset, head[:], b.payload) != binary.BigEndian.Uint32(head[4:]) {
		return b, fmt.Errorf("%w at byte %d", errDamaged, offset)
	}
	return b, nil
}

func readAt(f statedir.File, p []byte, offset int64) error {
	n, err := f.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends too early", errDamaged)
	}
	return err
}
