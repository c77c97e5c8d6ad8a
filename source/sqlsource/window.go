package sqlsource

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"
)

// window remembers the keys that were handed out last, in their order: a hash for
// each, in blocks whose bounds are known whole. Two keys of one hash are taken for
// one, which hides one late row in 10^15 or so.
type window struct {
	seed   maphash.Seed
	from   []value // below the first block; nil: it begins with the table
	blocks []block
	size   int // keys in all blocks
	next   int // the block to look at next
}

// block has the keys behind the end of the block before it, up to its own.
// The last one is its end, but for the block of the base line.
type block struct {
	to   []value
	keys []handed
	seen bool // it was looked at since the last one came
	torn bool // the first ones may lie below it: they are those of rows that were deleted
}

// handed is a key that was handed out.
type handed struct {
	hash uint64
	at   int64 // when: nanoseconds since 1970
}

// keyRead is a key that was read.
type keyRead struct {
	hash   uint64
	values []value
}

// lateKey is a key that is late.
type lateKey struct {
	keyRead
	passed int64 // when the next key was handed out
	behind int   // keys handed out above it
}

func newWindow(at []value) *window { return &window{seed: maphash.MakeSeed(), from: at} }

// end is the last key handed out.
func (w *window) end() []value {
	if len(w.blocks) == 0 {
		return w.from
	}
	return w.blocks[len(w.blocks)-1].to
}

func (w *window) hash(key []cell) uint64 {
	var h maphash.Hash
	h.SetSeed(w.seed)
	var size [binary.MaxVarintLen64]byte
	for _, c := range key {
		h.WriteByte(c.tag)
		h.Write(binary.AppendUvarint(size[:0], uint64(len(c.text))))
		h.Write(c.text)
	}
	return h.Sum64()
}

func (w *window) hashOf(key []value) uint64 {
	cells := make([]cell, len(key))
	for i, v := range key {
		cells[i] = cell{v.tag, []byte(v.text)}
	}
	return w.hash(cells)
}

// add adds the keys of a batch, the last of which is to. They go into the last
// block as long as that has no more than room.
func (w *window) add(hashes []uint64, to []value, now time.Time, room int) {
	if n := len(w.blocks); n == 0 || len(w.blocks[n-1].keys)+len(hashes) > room {
		w.blocks = append(w.blocks, block{})
	}
	b := &w.blocks[len(w.blocks)-1]
	b.to, b.seen = to, false
	for _, h := range hashes {
		b.keys = append(b.keys, handed{h, now.UnixNano()})
	}
	w.size += len(hashes)
}

// prepend adds keys below all others, and above from. They are in falling order.
func (w *window) prepend(keys []keyRead, from []value, now time.Time) {
	b := block{to: w.from, seen: true}
	for _, k := range slices.Backward(keys) {
		b.keys = append(b.keys, handed{k.hash, now.UnixNano()})
	}
	w.blocks = slices.Insert(w.blocks, 0, b)
	w.from = from
	w.size += len(keys)
	if w.next > 0 {
		w.next++
	}
}

// cut forgets the keys above key, and returns them: they will be handed out again.
// ok is false if the window does not have key.
func (w *window) cut(key []value) (gone map[uint64]bool, ok bool) {
	if slices.Equal(key, w.end()) {
		return nil, true
	}
	b, i := -1, -1
	if !slices.Equal(key, w.from) {
		if b, i = w.find(key); b < 0 {
			return nil, false
		}
	}
	gone = map[uint64]bool{}
	left := 0
	for j := len(w.blocks) - 1; j >= max(b, 0); j-- {
		keep := 0
		if j == b {
			keep = i + 1
		}
		for _, k := range w.blocks[j].keys[keep:] {
			gone[k.hash] = true
			left++
		}
	}
	w.size -= left
	w.blocks = w.blocks[:b+1]
	if b >= 0 {
		w.blocks[b].to, w.blocks[b].keys = key, w.blocks[b].keys[:i+1]
	}
	w.next = min(w.next, len(w.blocks))
	return gone, true
}

// find returns where a key is, -1 if nowhere.
func (w *window) find(key []value) (b, i int) {
	h := w.hashOf(key)
	for b := len(w.blocks) - 1; b >= 0; b-- {
		i := slices.IndexFunc(w.blocks[b].keys, func(k handed) bool { return k.hash == h })
		if i >= 0 && (!w.blocks[b].torn || slices.Equal(key, w.blocks[b].to)) {
			return b, i
		}
	}
	return -1, -1
}

// trim forgets blocks from the first on, as long as there are more than rows
// keys, or they were handed out before a moment. It returns how many, and how many
// keys in those that were not looked at.
func (w *window) trim(rows int, before int64) (n, unseen int) {
	for n < len(w.blocks) {
		keys := w.blocks[n].keys
		old := len(keys) == 0 || keys[len(keys)-1].at < before
		if !old && (w.size <= rows || n == len(w.blocks)-1) {
			break
		}
		if !w.blocks[n].seen {
			unseen += len(keys)
		}
		w.size -= len(keys)
		w.from = w.blocks[n].to
		n++
	}
	w.blocks = slices.Delete(w.blocks, 0, n)
	w.next = max(w.next-n, 0)
	return n, unseen
}

// bounds returns those of the block to look at next.
func (w *window) bounds() (after, to []value) {
	after = w.from
	if w.next > 0 {
		after = w.blocks[w.next-1].to
	}
	return after, w.blocks[w.next].to
}

// looked takes the keys that are there, in order, from the start of the block to
// look at next: all of it, or some, after which the block is split. It returns
// those that were not handed out, and holds them for known from then on.
func (w *window) looked(read []keyRead, whole bool, now time.Time) (late []lateKey) {
	b := w.blocks[w.next]
	index := make(map[uint64]int, len(b.keys))
	for i, k := range b.keys {
		index[k.hash] = i
	}
	above := 0
	for _, other := range w.blocks[w.next+1:] {
		above += len(other.keys)
	}
	// A key handed out that is not there was deleted. Which side of a late key
	// it was on is not known, so it is forgotten if it is beside one.
	var keys []handed
	seen, next, split, torn := 0, 0, -1, b.torn // late ones in all of keys; of b.keys; of read
	for i, k := range read {
		if at, ok := index[k.hash]; ok {
			if at < next {
				continue
			}
			if torn {
				next = at
			}
			keys = append(keys, b.keys[next:at+1]...)
			seen, next, split, torn = len(late), at+1, i, false
			continue
		}
		passed := now.UnixNano()
		if next < len(b.keys) {
			passed = b.keys[next].at
		}
		late = append(late, lateKey{k, passed, above + len(b.keys) - next})
		keys = append(keys, handed{k.hash, passed})
		torn = true
	}
	rest := b.keys[next:]
	w.size -= len(b.keys)
	switch {
	case whole:
		if torn && len(rest) > 0 {
			rest = rest[len(rest)-1:]
			if rest[0].hash != w.hashOf(b.to) { // not the end of the block, which is known
				rest = nil
			}
		}
		keys = append(keys, rest...)
		w.size += len(keys)
		w.blocks[w.next] = block{to: b.to, keys: keys, seen: true}
	default:
		if split < 0 {
			split = len(read) - 1
		} else { // those behind are read again with what follows
			keys, late, torn = keys[:len(keys)-(len(late)-seen)], late[:seen], false
		}
		w.size += len(keys) + len(rest)
		w.blocks[w.next] = block{to: read[split].values, keys: keys, seen: true}
		w.blocks = slices.Insert(w.blocks, w.next+1, block{to: b.to, keys: slices.Clone(rest), torn: torn})
	}
	w.next++
	return late
}
