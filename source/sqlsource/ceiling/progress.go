package ceiling

import "time"

// Progress remembers when rows with integer keys were first seen, so that a strategy can
// say how long the first row that cannot be read has existed. The zero value is ready for
// use. It is not safe for concurrent use.
type Progress struct {
	seen []fence[int64]
	asOf time.Time
}

// See records the greatest key, which was read after at.
func (p *Progress) See(greatest int64, at time.Time) {
	n := fence[int64]{high: greatest, at: at}
	switch last := len(p.seen) - 1; {
	case last >= 0 && p.seen[last].high >= greatest:
	case last == MaxFences-1:
		p.seen[last] = n
	default:
		p.seen = append(p.seen, n)
	}
}

// Advance records that all rows up to limit can be read. At is a moment before the
// greatest key was last read.
func (p *Progress) Advance(limit int64, at time.Time) {
	n := 0
	for n < len(p.seen) && p.seen[n].high <= limit {
		p.asOf = p.seen[n].at
		n++
	}
	p.seen = append(p.seen[:0], p.seen[n:]...)
	if len(p.seen) == 0 {
		p.asOf = at
	}
}

// AsOf returns a moment such that every row committed before it can be read. It is zero
// if no such moment is known.
func (p *Progress) AsOf() time.Time { return p.asOf }

// HeldSince returns since when rows exist that cannot be read, zero if all can be read.
func (p *Progress) HeldSince() time.Time {
	if len(p.seen) == 0 {
		return time.Time{}
	}
	return p.seen[0].at
}
