package hostile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Recorder is a sink that records which rows were delivered, and when. It is safe for
// concurrent use.
type Recorder struct {
	Token string   // name of the column Table.Token, without quotes
	Key   []string // integer columns by which rows must be in order; nil: the order is not checked

	mu       sync.Mutex
	first    map[int64]time.Time // when each token was first delivered
	twice    int
	last     []int64
	disorder int
}

// Write implements [sink.Sink]. It fails if a row lacks the column of the token or of the
// key, or has no integer there.
//
// [sink.Sink]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/sink#Sink
func (r *Recorder) Write(_ context.Context, b source.Batch[row.Row]) error {
	at := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == nil {
		r.first = map[int64]time.Time{}
	}
	for _, rec := range b.Records {
		token, err := number(rec, r.Token)
		if err != nil {
			return err
		}
		if _, ok := r.first[token]; ok {
			r.twice++
		} else {
			r.first[token] = at
		}
		var key []int64
		for _, name := range r.Key {
			k, err := number(rec, name)
			if err != nil {
				return err
			}
			key = append(key, k)
		}
		if r.last != nil && slices.Compare(key, r.last) <= 0 {
			r.disorder++
		}
		r.last = key
	}
	return nil
}

func number(r row.Row, column string) (int64, error) {
	i := r.Columns().Index(column)
	if i < 0 {
		return 0, fmt.Errorf("hostile: the reader does not read the column %q", column)
	}
	n, err := strconv.ParseInt(r.Text(i), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("hostile: the column %q has a value that is not a 64-bit integer", column)
	}
	return n, nil
}

// Result compares what one reader delivered with what the writers committed.
type Result struct {
	Reader     string
	Committed  int // rows committed
	Delivered  int // committed rows delivered at least once
	Lost       int // rows committed, not deleted, and not delivered
	Duplicates int // deliveries of a token that was delivered before
	OutOfOrder int // deliveries with a key that is not above the previous one
	Phantom    int // rows delivered that were never committed, or that the server lost after a crash

	Delay      Quantiles // from the confirmed commit to the delivery
	AddedDelay Quantiles // how much later than the base reader, for rows that both delivered

	LostTokens []int64 // tokens of the lost rows
}

// Sound reports whether every row was delivered exactly once, in order, and no other row
// was delivered.
func (r Result) Sound() bool {
	return r.Lost == 0 && r.Duplicates == 0 && r.OutOfOrder == 0 && r.Phantom == 0
}

// Quantiles are the median and the 99th percentile of a delay.
type Quantiles struct{ P50, P99 time.Duration }

// Judge compares the rows that r delivered with the committed rows. name is the reader's
// name in the Result. Result.AddedDelay is measured against base; with a nil base it is
// zero. Call it after Writers.Run has returned.
func (l *Ledger) Judge(name string, r, base *Recorder) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	came := maps.Clone(r.first)
	res := Result{Reader: name, Committed: l.count.Committed, Duplicates: r.twice, OutOfOrder: r.disorder}
	var delays, added []time.Duration
	var before map[int64]time.Time
	if base != nil && base != r {
		base.mu.Lock()
		defer base.mu.Unlock()
		before = base.first
	}
	for _, s := range l.spans {
		for t := s.first; s.has(t); t++ {
			at, ok := came[t]
			switch {
			case l.absent[t]: // delivered, it is a phantom
			case ok:
				delete(came, t)
				res.Delivered++
				delays = append(delays, max(at.Sub(s.at), 0))
				if b, ok := before[t]; ok {
					added = append(added, at.Sub(b))
				}
			case !l.deleted[t]:
				res.Lost++
				res.LostTokens = append(res.LostTokens, t)
			}
		}
	}
	res.Phantom = len(came)
	res.Delay, res.AddedDelay = quantiles(delays), quantiles(added)
	return res
}

func quantiles(d []time.Duration) Quantiles {
	if len(d) == 0 {
		return Quantiles{}
	}
	slices.Sort(d)
	return Quantiles{d[len(d)/2], d[len(d)*99/100]}
}

// Describe says how and when a row was written, to find out why it was lost. Call it after
// Writers.Run has returned.
func (l *Ledger) Describe(token int64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.spans, token, func(s span, token int64) int { return cmp.Compare(s.first+int64(s.n)-1, token) })
	if i == len(l.spans) || !l.spans[i].has(token) || l.absent[token] {
		return fmt.Sprintf("token %d: not committed", token)
	}
	s := l.spans[i]
	return fmt.Sprintf("token %d: %s, %d rows from token %d, committed at %s", token, s.what, s.n, s.first, s.at.Format("15:04:05.000"))
}

// MarkdownHead is the head of a Markdown table of Results.
const MarkdownHead = "| scenario | reader | committed | delivered | lost | twice | out of order | not committed | delay p50, p99 | added p50, p99 |\n|---|---|---|---|---|---|---|---|---|---|\n"

// Markdown returns the row of the result in a Markdown table.
func (r Result) Markdown(scenario string) string {
	return fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d | %d | %s | %s |\n", scenario, r.Reader,
		r.Committed, r.Delivered, r.Lost, r.Duplicates, r.OutOfOrder, r.Phantom, r.Delay, r.AddedDelay)
}

// String returns the median and the 99th percentile, as in "12ms, 1.934s".
func (q Quantiles) String() string {
	return fmt.Sprint(q.P50.Round(time.Millisecond), ", ", q.P99.Round(time.Millisecond))
}
