package mysql

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// span is the numbers from first to last.
type span struct{ first, last int64 }

// missing returns the numbers above base up to high that are not in a set, in order. Bit b of
// words[w] stands for the number 64*w + b. The smallest number in the set is low.
func missing(words map[int64]uint64, base, low, high int64) []span {
	var all []span
	last := base // the number before the next span
	for w := low >> 6; w <= high>>6; w++ {
		for word := words[w]; word != 0; word &= word - 1 {
			number := w<<6 + int64(bits.TrailingZeros64(word))
			if number > last+1 {
				all = append(all, span{last + 1, number - 1})
			}
			last = max(last, number)
		}
	}
	if last < high {
		all = append(all, span{last + 1, high})
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

// beyond returns the first number in the spans above a number, or 0.
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
