package xminsource

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/artifactofdevotion/devotion/internal/statedir"
	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A list of keys is a chain of segments. A segment is a file that one process writes once, from start to end. It consists of
// blocks: the first one is a header, and the others have keys in the order in which they were added. A segment that
// continues another one names the place in it.
const (
	headSize  = 4 + 4 + 4 // the length of the payload, the checksum, the number of keys
	blockSize = 64 << 10  // a block ends when it has this many bytes
	maxBlock  = blockSize + 64<<10
)

// header is the first block of a segment.
type header struct {
	Parent string `json:"parent,omitempty"` // the segment that this one continues, in hexadecimal
	Offset uint64 `json:"offset,omitempty"` // and where in it
	Kinds  []int  `json:"kinds,omitempty"`  // of the columns of the key
	Whole  bool   `json:"whole,omitempty"`  // a key pass has written the list from its begin
}

// repeated marks the number of keys of a block with keys that were in another list or segment before.
const repeated = 1 << 31

var checksums = crc32.MakeTable(crc32.Castagnoli)

// checksum includes the place of a block, so that a block at another place is noticed.
func checksum(at listPlace, head, payload []byte) uint32 {
	var where [16]byte
	binary.BigEndian.PutUint64(where[:8], at.segment)
	binary.BigEndian.PutUint64(where[8:], at.offset)
	sum := crc32.Update(0, checksums, where[:])
	sum = crc32.Update(sum, checksums, head[:4])
	sum = crc32.Update(sum, checksums, head[8:headSize])
	return crc32.Update(sum, checksums, payload)
}

// keyWriter writes a segment. It creates the file with the first block.
type keyWriter struct {
	dir    statedir.Dir
	of     listID
	name   string
	header header
	at     listPlace // the end

	file   durable.File
	synced uint64
	count  uint64 // keys added
	block  []byte // headSize bytes that are filled in later, then keys
	keys   uint32 // in the block
	mark   uint32 // repeated, or 0
}

func (w *keyWriter) add(key []byte) error {
	if len(w.block) == 0 {
		w.block = append(w.block, make([]byte, headSize)...)
	}
	w.block = append(binary.AppendUvarint(w.block, uint64(len(key))), key...)
	w.keys++
	w.count++
	if len(w.block) >= blockSize {
		return w.flush()
	}
	return nil
}

// flush writes the block.
func (w *keyWriter) flush() (err error) {
	if w.keys == 0 {
		return nil
	}
	if err = w.create(); err == nil {
		err = w.write(w.block, w.keys|w.mark)
	}
	w.block, w.keys = w.block[:0], 0
	return err
}

// create creates the file and writes the header, unless that was done.
func (w *keyWriter) create() error {
	if w.file != nil {
		return nil
	}
	text, err := json.Marshal(w.header)
	if err != nil {
		return err
	}
	if w.file, err = w.dir.Create(w.name); err != nil {
		return err
	}
	return w.write(append(make([]byte, headSize), text...), 0)
}

func (w *keyWriter) write(block []byte, keys uint32) error {
	binary.BigEndian.PutUint32(block, uint32(len(block)-headSize))
	binary.BigEndian.PutUint32(block[8:], keys)
	binary.BigEndian.PutUint32(block[4:], checksum(w.at, block, block[headSize:]))
	n, err := w.file.Write(block)
	w.at.offset += uint64(n)
	return err
}

// sync makes all keys durable and returns the place after them.
func (w *keyWriter) sync() (listPlace, error) {
	if err := w.flush(); err != nil {
		return listPlace{}, err
	}
	if w.file == nil {
		return listPlace{}, nil
	}
	if w.synced < w.at.offset {
		if err := w.file.Sync(); err != nil {
			return listPlace{}, err
		}
		if w.synced == 0 {
			if err := w.dir.Sync(); err != nil {
				return listPlace{}, err
			}
		}
		w.synced = w.at.offset
	}
	return w.at, nil
}

// close closes the file. It is removed if no cursor can name it.
func (w *keyWriter) close() {
	if w == nil || w.file == nil {
		return
	}
	_ = w.file.Close() // it was synced, or is not used
	if w.file = nil; w.synced == 0 {
		_ = w.dir.Remove(w.name) // otherwise it is removed with the old lists
	}
}

// errDamaged is wrapped by the error of a segment whose content has changed since it was written.
var errDamaged = errors.New("it is damaged")

// readBlock reads the block at a place, into buf if that is large enough. next is the place after it.
func readBlock(f statedir.File, at listPlace, buf []byte) (payload []byte, keys uint32, next listPlace, err error) {
	var head [headSize]byte
	if err = readAt(f, head[:], at.offset); err != nil {
		return nil, 0, next, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxBlock {
		return nil, 0, next, fmt.Errorf("%w at byte %d", errDamaged, at.offset)
	}
	if uint32(cap(buf)) < size {
		buf = make([]byte, size, size+size/8)
	}
	buf = buf[:size]
	if err = readAt(f, buf, at.offset+headSize); err != nil {
		return nil, 0, next, err
	}
	if checksum(at, head[:], buf) != binary.BigEndian.Uint32(head[4:]) {
		return nil, 0, next, fmt.Errorf("%w at byte %d", errDamaged, at.offset)
	}
	return buf, binary.BigEndian.Uint32(head[8:]), listPlace{at.segment, at.offset + headSize + uint64(size)}, nil
}

func readAt(f statedir.File, p []byte, offset uint64) error {
	n, err := f.ReadAt(p, int64(offset))
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends too early", errDamaged)
	}
	return err
}

func readHeader(f statedir.File, segment uint64) (h header, first listPlace, err error) {
	payload, keys, first, err := readBlock(f, listPlace{segment, 0}, nil)
	if err == nil && (keys != 0 || json.NewDecoder(bytes.NewReader(payload)).Decode(&h) != nil) {
		err = errDamaged
	}
	return h, first, err
}

// parent returns the place that a segment continues.
func (h header) parent() (listPlace, error) {
	if h.Parent == "" {
		return listPlace{}, nil
	}
	segment, err := strconv.ParseUint(h.Parent, 16, 64)
	if err != nil {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return listPlace{segment, h.Offset}, err
}

// cutKey cuts the first key off a block.
func cutKey(payload []byte) (key, rest []byte, err error) {
	n, used := binary.Uvarint(payload)
	if used <= 0 || n > uint64(len(payload)-used) {
		return nil, nil, errDamaged
	}
	end := used + int(n)
	return payload[used:end], payload[end:], nil
}

// keyText is a key of a list.
func keyText(key []byte) sqlsource.Key { return sqlsource.Key(key) }
