package late

import (
	"hash/maphash"
	"slices"

	"github.com/artifactofdevotion/devotion/source"
)

const (
	spanKeys = 1024 // small batches are joined up to this many keys, to be checked by one statement
	pageKeys = 2048 // keys that one statement reads
)

// window remembers the keys of the rows passed last, as hashes, in the order of
// the keys. Two keys with one hash are taken for one key, which hides one late
// row in 10^14.
type window struct {
	seed  maphash.Seed
	from  source.Cursor // the window begins after this key
	spans []span
	size  int // keys in all spans
	next  int // the span to check next

	unchecked int64 // keys forgotten before they were checked
}

// span has the keys after the end of the span before it, up to its own end.
type span struct {
	to      source.Cursor
	keys    []uint64
	checked bool
	unread  bool // the keys could not be read: those of the next check are taken for passed
}

func newWindow(from source.Cursor) *window { return &window{seed: maphash.MakeSeed(), from: from} }

func (w *window) hash(key source.Cursor) uint64 { return maphash.String(w.seed, string(key)) }

func (w *window) hashes(keys []source.Cursor) []uint64 {
	all := make([]uint64, len(keys))
	for i, k := range keys {
		all[i] = w.hash(k)
	}
	return all
}

// bounds returns those of the i-th span; i may be the number of spans.
func (w *window) bounds(i int) (after, to source.Cursor) {
	after = w.from
	if i > 0 {
		after = w.spans[i-1].to
	}
	if i < len(w.spans) {
		to = w.spans[i].to
	}
	return after, to
}

// add adds keys above all others, up to a cursor.
func (w *window) add(keys []source.Cursor, to source.Cursor) {
	n := len(w.spans)
	if n == 0 || w.spans[n-1].unread || len(w.spans[n-1].keys)+len(keys) > spanKeys {
		w.spans = append(w.spans, span{})
		n++
	}
	s := &w.spans[n-1]
	s.to, s.checked, s.keys = to, false, append(s.keys, w.hashes(keys)...)
	w.size += len(keys)
}

// cut forgets the keys above at, whose rows will be passed again. It reports
// whether the window contains at.
func (w *window) cut(at source.Cursor) bool {
	h := w.hash(at)
	for i := len(w.spans); ; i-- {
		if after, _ := w.bounds(i); at == after {
			w.drop(i, len(w.spans))
			return true
		}
		if i == 0 {
			return false
		}
		if n := slices.Index(w.spans[i-1].keys, h) + 1; n > 0 {
			w.drop(i, len(w.spans))
			s := &w.spans[i-1]
			w.size -= len(s.keys) - n
			s.to, s.keys = at, s.keys[:n]
			return true
		}
	}
}

func (w *window) drop(i, j int) {
	for _, s := range w.spans[i:j] {
		w.size -= len(s.keys)
	}
	w.spans = slices.Delete(w.spans, i, j)
	if w.next > i {
		w.next = max(w.next-(j-i), i)
	}
}

// trim forgets the oldest spans while there are more keys than limit.
func (w *window) trim(limit int) {
	for w.size > limit && len(w.spans) > 1 {
		if s := w.spans[0]; !s.checked {
			w.unchecked += int64(len(s.keys))
		}
		w.from = w.spans[0].to
		w.drop(0, 1)
	}
}

// check compares the next span with the keys that the table has there now, or
// with the first pageKeys of them, after which the span is split. It returns the
// keys that are late, and remembers them from then on.
func (w *window) check(found []source.Cursor) (late []source.Cursor) {
	s := w.spans[w.next]
	now := w.hashes(found)
	known := make(map[uint64]bool, len(s.keys))
	for _, h := range s.keys {
		known[h] = true
	}
	for i, h := range now {
		if !known[h] && !s.unread {
			late = append(late, found[i])
		}
		delete(known, h)
	}
	w.size += len(now) - len(s.keys)
	w.spans[w.next] = span{to: s.to, keys: now, checked: true}
	if len(found) == pageKeys { // there may be more
		w.spans[w.next].to = found[len(found)-1]
		rest := slices.DeleteFunc(slices.Clone(s.keys), func(h uint64) bool { return !known[h] })
		w.size += len(rest)
		w.spans = slices.Insert(w.spans, w.next+1, span{to: s.to, keys: rest, unread: s.unread})
	}
	w.next++
	return late
}
