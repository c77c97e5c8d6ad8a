package hostile

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Recorder is a sink that notes which rows came, and when. It is safe for
// concurrent use.
type Recorder struct {
	Token string   // the column of Table.Token
	Key   []string // columns of integers by which the rows must be in order; nil: order is not judged

	mu         sync.Mutex
	deliveries []delivery
	last       []int64
	disorder   int
}

type delivery struct {
	token int64
	at    time.Time
}

// Write implements [sink.Sink].
//
// [sink.Sink]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/sink#Sink
func (r *Recorder) Write(_ context.Context, b source.Batch[row.Row]) error {
	at := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range b.Records {
		token, err := number(rec, r.Token)
		if err != nil {
			return err
		}
		r.deliveries = append(r.deliveries, delivery{token, at})
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
		return 0, fmt.Errorf("hostile: the column %q has more than integers of 64 bits", column)
	}
	return n, nil
}

// Tokens returns the tokens that came, in their order.
func (r *Recorder) Tokens() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []int64
	for _, d := range r.deliveries {
		list = append(list, d.token)
	}
	return list
}

// times returns when each token came first.
func (r *Recorder) times() map[int64]time.Time {
	m := make(map[int64]time.Time, len(r.deliveries))
	for _, d := range r.deliveries {
		if _, twice := m[d.token]; !twice {
			m[d.token] = d.at
		}
	}
	return m
}

// Result compares what a reader delivered with the rows that were written.
type Result struct {
	Reader     string
	Committed  int // rows
	Delivered  int // of those, each counted once
	Lost       int // committed, not deleted, and not delivered
	Twice      int // delivered once more than once
	OutOfOrder int // deliveries with a key that is not above the one before
	Phantom    int // delivered, and never committed or taken back by the server

	Delay Quantiles // from the confirmed commit to the delivery
	Added Quantiles // beyond the delivery of the first reader, for the rows that both have

	LostTokens []int64 // the rows lost
}

// Sound reports whether nothing was lost, nothing came twice, out of order or
// without having been committed.
func (r Result) Sound() bool {
	return r.Lost == 0 && r.Twice == 0 && r.OutOfOrder == 0 && r.Phantom == 0
}

// Quantiles are those of a delay.
type Quantiles struct{ P50, P99 time.Duration }

// Judge compares the delivered rows with the committed ones. base is the Recorder whose
// delays are the measure for Result.Added; nil: none.
func (l *Ledger) Judge(name string, r, base *Recorder) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	came := r.times()
	res := Result{Reader: name, Committed: l.count.Committed, Twice: len(r.deliveries) - len(came), OutOfOrder: r.disorder}
	var delays, added []time.Duration
	var before map[int64]time.Time
	if base != nil && base != r {
		base.mu.Lock()
		defer base.mu.Unlock()
		before = base.times()
	}
	for _, s := range l.spans {
		if s.state != committed {
			continue
		}
		for t := s.first; t < s.first+int64(s.n); t++ {
			at, ok := came[t]
			if !ok && !l.deleted[t] {
				res.Lost++
				res.LostTokens = append(res.LostTokens, t)
			}
			if !ok {
				continue
			}
			delete(came, t)
			res.Delivered++
			delays = append(delays, max(at.Sub(s.at), 0))
			if b, ok := before[t]; ok {
				added = append(added, at.Sub(b))
			}
		}
	}
	res.Phantom = len(came)
	res.Delay, res.Added = quantiles(delays), quantiles(added)
	return res
}

func quantiles(d []time.Duration) Quantiles {
	if len(d) == 0 {
		return Quantiles{}
	}
	slices.Sort(d)
	return Quantiles{d[len(d)/2], d[len(d)*99/100]}
}

// Describe tells how a row was written, for finding out why it was lost.
func (l *Ledger) Describe(token int64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.find(token)
	if !ok {
		return fmt.Sprintf("token %d: not committed", token)
	}
	return fmt.Sprintf("token %d: %s, %d rows from token %d, committed at %s", token, s.what, s.n, s.first, s.at.Format("15:04:05.000"))
}

// Markdown writes results as the rows of a table, the first with a heading.
func Markdown(w io.Writer, heading bool, scenario string, results ...Result) error {
	if heading {
		if _, err := fmt.Fprint(w, "| scenario | reader | committed | delivered | lost | twice | out of order | not committed | delay p50, p99 | added p50, p99 |\n|---|---|---|---|---|---|---|---|---|---|\n"); err != nil {
			return err
		}
	}
	for _, r := range results {
		if _, err := fmt.Fprintf(w, "| %s | %s | %d | %d | %d | %d | %d | %d | %s | %s |\n", scenario, r.Reader,
			r.Committed, r.Delivered, r.Lost, r.Twice, r.OutOfOrder, r.Phantom, r.Delay, r.Added); err != nil {
			return err
		}
	}
	return nil
}

// String is as in 12ms, 1.9s.
func (q Quantiles) String() string {
	return short(q.P50) + ", " + short(q.P99)
}

func short(d time.Duration) string {
	if d.Abs() < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
