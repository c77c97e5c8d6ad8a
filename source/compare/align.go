package compare

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc64"
	"iter"
)

// Entry is a record of a stream.
type Entry struct {
	// Key identifies the record in its stream.
	Key string

	// Digest is a digest of the record's content, see [Digest].
	Digest uint64
}

var polynomial = crc64.MakeTable(crc64.ECMA)

// Digest returns a digest of a record's content. A change of up to eight bytes in a
// row always changes it. It does not withstand deliberate forgery.
func Digest(record []byte) uint64 { return crc64.Checksum(record, polynomial) }

// Kind is how the records of a [Pair] differ.
type Kind uint8

// The kinds of pairs.
const (
	Equal   Kind = iota // both streams have the record
	Changed             // both have its key, with different content
	Missing             // only the first stream has it
	Extra               // only the second stream has it
)

// String returns the kind in lower case.
func (k Kind) String() string { return [...]string{"equal", "changed", "missing", "extra"}[k] }

// Pair is a record of the first stream and the one of the second stream that has its
// key. Got is the zero Entry if Kind is Missing, and Want if it is Extra.
type Pair struct {
	Kind      Kind
	Want, Got Entry
}

// Key returns the key of the pair's records.
func (p Pair) Key() string {
	if p.Kind == Extra {
		return p.Got.Key
	}
	return p.Want.Key
}

// Options say how streams are compared. The zero value is ready to use.
type Options struct {
	// Order compares two keys of different records: it is negative if a comes
	// before b, and positive if it comes after b. It is called rarely, so it may
	// query a database. If it is nil, a run of more than Window records that only
	// one stream has is an error.
	Order func(a, b string) (int, error)

	// Window is how many records of each stream are read ahead and kept in memory
	// where the streams differ. Defaults to 65,536, which take about 15 MB.
	Window int
}

// ErrPart is yielded at the end of the second stream if it is only the first part of
// what the first stream holds. Records that follow in the first stream are then
// ignored, and not missing.
var ErrPart = errors.New("compare: the stream is the first part only")

// Align returns the pairs of two streams, each record once. Pairs with keys that both
// streams have come in their order. Between two of these, the missing records come
// before the extra ones.
//
// The first error of a stream, or of Options.Order, is the last that is yielded.
func Align(want, got iter.Seq2[Entry, error], o Options) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		w, g := open(want), open(got)
		defer w.stop()
		defer g.stop()
		a := aligner{want: w, got: g, order: o.Order, window: cmp.Or(max(o.Window, 0), 1<<16)}
		for {
			pair, ok, err := a.next()
			if err != nil {
				yield(Pair{}, err)
				return
			}
			if !ok || !yield(pair, nil) {
				return
			}
		}
	}
}

// stream is one of the streams, with the records that were read ahead.
type stream struct {
	pull  func() (Entry, error, bool)
	stop  func()
	queue []Entry // read, and not paired yet
	ended bool
	part  bool // it ended with ErrPart
}

func open(seq iter.Seq2[Entry, error]) *stream {
	pull, stop := iter.Pull2(seq)
	return &stream{pull: pull, stop: stop}
}

// fill reads until n records are queued, and reports whether they are.
func (s *stream) fill(n int) (bool, error) {
	for len(s.queue) < n && !s.ended {
		e, err, ok := s.pull()
		switch {
		case errors.Is(err, ErrPart):
			s.ended, s.part = true, true
		case err != nil:
			return false, err
		case !ok:
			s.ended = true
		default:
			s.queue = append(s.queue, e)
		}
	}
	return len(s.queue) >= n, nil
}

func (s *stream) pop() Entry {
	e := s.queue[0]
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return e
}

type aligner struct {
	want, got *stream
	order     func(a, b string) (int, error)
	window    int

	missing, extra int // so many queued records of want, and of got, have no partner
}

// next returns the next pair, and false at the end.
func (a *aligner) next() (Pair, bool, error) {
	for {
		if a.missing > 0 {
			a.missing--
			return Pair{Kind: Missing, Want: a.want.pop()}, true, nil
		}
		if a.extra > 0 {
			a.extra--
			return Pair{Kind: Extra, Got: a.got.pop()}, true, nil
		}
		moreGot, err := a.got.fill(1)
		if err != nil || !moreGot && a.got.part {
			return Pair{}, false, err
		}
		moreWant, err := a.want.fill(1)
		switch {
		case err != nil, !moreWant && !moreGot:
			return Pair{}, false, err
		case !moreGot:
			a.missing = 1
		case !moreWant:
			a.extra = 1
		case a.want.queue[0].Key == a.got.queue[0].Key:
			p := Pair{Want: a.want.pop(), Got: a.got.pop()}
			if p.Want.Digest != p.Got.Digest {
				p.Kind = Changed
			}
			return p, true, nil
		default:
			if a.missing, a.extra, err = a.resync(); err != nil {
				return Pair{}, false, err
			}
		}
	}
}

// resync returns how many records at the head of each queue have no partner. At
// least one of the numbers is not 0.
func (a *aligner) resync() (missing, extra int, err error) {
	inWant, inGot := map[string]int{}, map[string]int{}
	for n := range a.window {
		moreWant, err := a.want.fill(n + 1)
		if err != nil {
			return 0, 0, err
		}
		moreGot, err := a.got.fill(n + 1)
		if err != nil {
			return 0, 0, err
		}
		if moreWant {
			key := a.want.queue[n].Key
			if at, ok := inGot[key]; ok {
				return n, at, nil
			}
			setFirst(inWant, key, n)
		}
		if moreGot {
			key := a.got.queue[n].Key
			if at, ok := inWant[key]; ok {
				return at, n, nil
			}
			setFirst(inGot, key, n)
		}
		if !moreWant && !moreGot {
			break
		}
	}
	// A key has no partner if all records that could have it are in the other queue.
	all, allGot := len(a.want.queue), len(a.got.queue)
	switch {
	case a.got.ended && a.got.part && allGot <= a.window:
		return 0, allGot, nil
	case a.want.ended && all <= a.window:
		return 0, min(allGot, a.window), nil
	case a.got.ended && allGot <= a.window:
		return min(all, a.window), 0, nil
	case a.order == nil:
		return 0, 0, fmt.Errorf("compare: no key is in both streams for %d records after %q and %q: set Options.Order", a.window, a.want.queue[0].Key, a.got.queue[0].Key)
	}
	order, err := a.order(a.want.queue[a.window-1].Key, a.got.queue[a.window-1].Key)
	if err != nil {
		return 0, 0, fmt.Errorf("compare: comparing two keys: %w", err)
	}
	if order <= 0 {
		return a.window, 0, nil
	}
	return 0, a.window, nil
}

func setFirst(m map[string]int, key string, n int) {
	if _, ok := m[key]; !ok {
		m[key] = n
	}
}
