// Package batchsize decides how many records to fetch at once.
package batchsize

// tooLargeFor is how many batches are written with the size that a sink accepted,
// before a larger one is tried: one large record must not slow a pipeline down for
// ever.
const tooLargeFor = 100

// Limit is the greatest number of records of the next batch. It is Max, or less after a
// batch that timed out, was rejected, or was too large.
type Limit struct {
	Next int // the limit
	Max  int

	most    int // the greatest limit after a batch was too large; 0: Max
	written int // batches since most was set
}

// TooLarge sets the greatest limit to n, after a batch of more records was too large.
func (l *Limit) TooLarge(n int) { l.most, l.written = n, 0 }

// Grow raises the limit after a batch was written.
func (l *Limit) Grow() {
	most := l.most
	if most == 0 {
		most = l.Max
	}
	if l.written++; l.written >= tooLargeFor {
		l.most, l.written = most+min(most, l.Max-most), 0
	}
	l.Next += min(l.Next, most-l.Next) // without overflow
}
