package mysql

import (
	"math/bits"
	"strconv"
	"strings"
)

// numbers is a set of positive numbers within bounds, 64 of them to a word.
type numbers struct {
	low, high int64
	words     []uint64
}

func newNumbers(low, high int64) *numbers {
	return &numbers{low, high, make([]uint64, high>>6-low>>6+1)}
}

// add adds a word: bit b of it stands for 64*word + b.
func (n *numbers) add(word int64, set uint64) {
	if i := word - n.low>>6; i >= 0 && i < int64(len(n.words)) {
		n.words[i] |= set
	}
}

// span is the numbers from first to last.
type span struct{ first, last int64 }

// holes returns the missing numbers above base, in order.
func (n *numbers) holes(base int64) []span {
	var all []span
	add := func(first, last int64) {
		if first > last {
			return
		}
		if len(all) > 0 && all[len(all)-1].last == first-1 {
			all[len(all)-1].last = last
			return
		}
		all = append(all, span{first, last})
	}
	add(base+1, n.low-1)
	for i, w := range n.words {
		start := (n.low>>6 + int64(i)) << 6
		for missing := ^w; missing != 0; {
			from := bits.TrailingZeros64(missing)
			run := bits.TrailingZeros64(^(missing >> from))
			add(max(start+int64(from), n.low, base+1), min(start+int64(from+run)-1, n.high))
			if from+run >= 64 {
				break
			}
			missing &^= 1<<(from+run) - 1
		}
	}
	return all
}

// upTo returns the spans up to a number.
func upTo(spans []span, last int64) []span {
	var all []span
	for _, s := range spans {
		if s.first > last {
			break
		}
		all = append(all, span{s.first, min(s.last, last)})
	}
	return all
}

// beyond returns the first number in the spans above a number.
func beyond(spans []span, above int64) (int64, bool) {
	for _, s := range spans {
		if s.last > above {
			return max(s.first, above+1), true
		}
	}
	return 0, false
}

// short is the longest span whose numbers are listed one by one. A range also locks the row
// after it for a moment, and counts as locked as long as another transaction holds that row.
const short = 64

// chunks cuts spans into runs that a condition of about limit values covers.
func chunks(spans []span, limit int) [][]span {
	var all [][]span
	cost, start := 0, 0
	for i, s := range spans {
		n := 2
		if s.last-s.first < short {
			n = int(s.last-s.first) + 1
		}
		if cost += n; cost > limit && i > start {
			all = append(all, spans[start:i])
			start, cost = i, n
		}
	}
	if start < len(spans) {
		all = append(all, spans[start:])
	}
	return all
}

// within writes the condition that a column's value lies in one of the spans. It
// contains only numbers, no arguments: a statement with arguments is prepared first, which takes
// another round trip.
func within(column string, spans []span) string {
	var list, ranges []string
	for _, s := range spans {
		if s.last-s.first >= short {
			ranges = append(ranges, column+" BETWEEN "+strconv.FormatInt(s.first, 10)+" AND "+strconv.FormatInt(s.last, 10))
			continue
		}
		for i := range s.last - s.first + 1 { // the last may be the greatest there is
			list = append(list, strconv.FormatInt(s.first+i, 10))
		}
	}
	if list != nil {
		ranges = append(ranges, column+" IN ("+strings.Join(list, ",")+")")
	}
	return "(" + strings.Join(ranges, " OR ") + ")"
}
