package mysql

import (
	"fmt"
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
	last := base // the number before the next hole
	for i, word := range n.words {
		for ; word != 0; word &= word - 1 {
			number := (n.low>>6+int64(i))<<6 + int64(bits.TrailingZeros64(word))
			if number > last+1 {
				all = append(all, span{last + 1, number - 1})
			}
			last = max(last, number)
		}
	}
	if last < n.high {
		all = append(all, span{last + 1, n.high})
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

// beyond returns the first number in the spans above a number, 0 if there is none.
func beyond(spans []span, above int64) int64 {
	for _, s := range spans {
		if s.last > above {
			return max(s.first, above+1)
		}
	}
	return 0
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

// within writes the condition that a column's value lies in one of the spans. It has no arguments,
// for which the statement would be prepared first, in another round trip.
func within(column string, spans []span) string {
	var list, ranges []string
	for _, s := range spans {
		if s.last-s.first >= short {
			ranges = append(ranges, fmt.Sprintf("%s BETWEEN %d AND %d", column, s.first, s.last))
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
