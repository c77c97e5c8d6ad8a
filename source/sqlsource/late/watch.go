package late

import (
	"context"
	"hash/maphash"
	"slices"

	"github.com/artifactofdevotion/devotion/source"
)

const (
	spanKeys = 1024 // small batches are joined up to this many keys, to be checked by one statement
	pageKeys = 2048 // keys that one statement reads
)

// watch remembers the keys of the rows passed last, as hashes, in the order of the keys.
// Two keys with one hash are taken for one key, which hides one late row in 10^14.
type watch[T any] struct {
	table Table[T]
	limit int // of the keys to remember
	seed  maphash.Seed
	from  source.Cursor // the first span begins after this key
	spans []span
	next  int // the span to check next

	unchecked int // keys forgotten before they were checked
}

// span has the keys after the end of the span before it, up to its own end.
type span struct {
	to      source.Cursor
	keys    []uint64
	checked bool
	unread  bool // the keys could not be read: the next check takes those it finds for passed
}

func newWatch[T any](t Table[T], limit int) watch[T] {
	return watch[T]{table: t, limit: limit, seed: maphash.MakeSeed()}
}

func (w *watch[T]) hashes(keys []source.Cursor) []uint64 {
	all := make([]uint64, len(keys))
	for i, k := range keys {
		all[i] = maphash.String(w.seed, string(k))
	}
	return all
}

func (w *watch[T]) size() (n int) {
	for _, s := range w.spans {
		n += len(s.keys)
	}
	return n
}

func (w *watch[T]) begin(at source.Cursor) { w.from, w.spans, w.next = at, nil, 0 }

// passed records the keys of a batch of rows between two cursors. It returns how many more
// rows the table has there: late rows whose keys are not known.
func (w *watch[T]) passed(ctx context.Context, from, to source.Cursor, rows int) (unnamed int, err error) {
	// The cursor of a key is the same text in any history only after Adopt.
	if from, err = w.table.Adopt(from); err != nil {
		return 0, err
	}
	if to, err = w.table.Adopt(to); err != nil {
		return 0, err
	}
	w.cut(from)
	if rows == 0 {
		if to != from { // the source has skipped rows
			w.begin(to)
		}
		return 0, nil
	}
	for at, more := from, true; more; {
		keys, err := w.table.Keys(ctx, at, to, pageKeys)
		if err != nil {
			w.spans = append(w.spans, span{to: to, unread: true})
			return 0, err
		}
		rows -= len(keys)
		at, more = to, len(keys) == pageKeys
		if more {
			at = keys[len(keys)-1]
		}
		w.add(keys, at)
	}
	w.trim()
	return max(-rows, 0), nil
}

// add adds keys above all others, up to a cursor.
func (w *watch[T]) add(keys []source.Cursor, to source.Cursor) {
	n := len(w.spans)
	if n == 0 || w.spans[n-1].unread || len(w.spans[n-1].keys)+len(keys) > spanKeys {
		w.spans = append(w.spans, span{})
		n++
	}
	s := &w.spans[n-1]
	s.to, s.checked, s.keys = to, false, append(s.keys, w.hashes(keys)...)
}

// cut forgets the keys above at, whose rows will be passed again: all keys, if at is not
// remembered.
func (w *watch[T]) cut(at source.Cursor) {
	h := maphash.String(w.seed, string(at))
	for i, s := range slices.Backward(w.spans) {
		n := len(s.keys)
		if at != s.to {
			n = slices.Index(s.keys, h) + 1
		}
		if at == s.to || n > 0 {
			w.spans[i].to, w.spans[i].keys = at, s.keys[:n]
			w.spans, w.next = slices.Delete(w.spans, i+1, len(w.spans)), min(w.next, i+1)
			return
		}
	}
	w.begin(at)
}

// trim forgets the oldest spans while there are more keys than the limit.
func (w *watch[T]) trim() {
	for w.size() > w.limit && len(w.spans) > 1 {
		s := w.spans[0]
		if !s.checked {
			w.unchecked += len(s.keys)
		}
		w.from, w.spans, w.next = s.to, slices.Delete(w.spans, 0, 1), max(w.next-1, 0)
	}
}

// check checks about as many keys as budget says, and returns the late ones.
// done says that all keys have been checked.
func (w *watch[T]) check(ctx context.Context, budget int) (late []source.Cursor, done bool, err error) {
	for ; w.next < len(w.spans) && budget > 0; budget-- {
		after := w.from
		if w.next > 0 {
			after = w.spans[w.next-1].to
		}
		keys, err := w.table.Keys(ctx, after, w.spans[w.next].to, pageKeys)
		if err != nil {
			return late, false, err
		}
		late = append(late, w.compare(keys)...)
		budget -= len(keys)
	}
	done = w.next == len(w.spans)
	if done {
		w.next = 0
	}
	w.trim()
	return late, done, nil
}

// compare compares the next span with the keys that the table has there now, or with the
// first pageKeys of them, after which the span is split. It returns those that are late, and
// remembers them from then on.
func (w *watch[T]) compare(found []source.Cursor) (late []source.Cursor) {
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
	w.spans[w.next] = span{to: s.to, keys: now, checked: true}
	if len(found) == pageKeys { // there may be more
		w.spans[w.next].to = found[len(found)-1]
		rest := slices.DeleteFunc(slices.Clone(s.keys), func(h uint64) bool { return !known[h] })
		w.spans = slices.Insert(w.spans, w.next+1, span{to: s.to, keys: rest, unread: s.unread})
	}
	w.next++
	return late
}
