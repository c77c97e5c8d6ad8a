package ceiling

import "time"

// tops remembers when rows were first seen, by the greatest key that there was,
// so that it can be said since when the first of those not read has been there.
type tops struct {
	seen []fence[int64]
	asOf time.Time
}

// see notes the greatest key there is, read after at.
func (t *tops) see(top int64, at time.Time) {
	n := fence[int64]{high: top, at: at}
	switch last := len(t.seen) - 1; {
	case last >= 0 && t.seen[last].high >= top:
	case last == maxFences-1:
		t.seen[last] = n
	default:
		t.seen = append(t.seen, n)
	}
}

// read says that all rows up to a key can be read. at is when the greatest was
// looked for last.
func (t *tops) read(limit int64, at time.Time) {
	n := 0
	for n < len(t.seen) && t.seen[n].high <= limit {
		t.asOf = t.seen[n].at
		n++
	}
	t.seen = append(t.seen[:0], t.seen[n:]...)
	if len(t.seen) == 0 {
		t.asOf = at
	}
}

// since returns since when there are rows that cannot be read.
func (t *tops) since() time.Time { return t.seen[0].at }
