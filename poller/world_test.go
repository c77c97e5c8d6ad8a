package poller_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// world is a pipeline of ints over parts that tests can bend. The cursor after
// record i is the text of i. Its fields are guarded by mu, as fetch and write
// run side by side.
type world struct {
	mu      sync.Mutex
	records []int
	written []int
	stored  source.Cursor
	calls   []string // such as "fetch 3+2", "write 3-5", "save 3-5", in the order they began
	log     bytes.Buffer

	// Each may be nil. An error of theirs is the call's, before any effect.
	onLoad  func(ctx context.Context) error
	onFetch func(ctx context.Context, after source.Cursor, max int) error
	onWrite func(ctx context.Context, b source.Batch[int]) error
	onSave  func(ctx context.Context, from, to source.Cursor) error
	answer  func(b *source.Batch[int]) // changes what a fetch returns
}

func newWorld(n int) *world {
	w := &world{}
	w.add(n)
	return w
}

// add appends n records, numbered on from 1.
func (w *world) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.records = append(w.records, len(w.records)+1)
	}
}

func (w *world) poller() *poller.Poller[int] {
	return &poller.Poller[int]{
		Name:         "test",
		Source:       source.Func[int](w.Fetch),
		Sink:         sink.Func[int](w.Write),
		Checkpointer: w,
		BatchSize:    10,
		Logger:       slog.New(slog.NewTextHandler(lockedWriter{w}, nil)),
	}
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(p)
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

func position(c source.Cursor) int {
	if c == "" {
		return 0
	}
	n, err := strconv.Atoi(string(c))
	if err != nil {
		panic(err)
	}
	return n
}

func cursor(n int) source.Cursor {
	if n == 0 {
		return ""
	}
	return source.Cursor(strconv.Itoa(n))
}

func (w *world) Fetch(ctx context.Context, after source.Cursor, max int) (source.Batch[int], error) {
	w.note("fetch %s+%d", after, max)
	if w.onFetch != nil {
		if err := w.onFetch(ctx, after, max); err != nil {
			return source.Batch[int]{}, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	from := position(after)
	to := min(from+max, len(w.records))
	b := source.Batch[int]{From: after, To: cursor(to), Records: append([]int(nil), w.records[from:to]...), More: to < len(w.records)}
	if w.answer != nil {
		w.answer(&b)
	}
	return b, nil
}

func (w *world) Write(ctx context.Context, b source.Batch[int]) error {
	w.note("write %s-%s", b.From, b.To)
	if w.onWrite != nil {
		if err := w.onWrite(ctx, b); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written = append(w.written, b.Records...)
	return nil
}

func (w *world) Load(ctx context.Context) (source.Cursor, error) {
	w.note("load")
	if w.onLoad != nil {
		if err := w.onLoad(ctx); err != nil {
			return "", err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored, nil
}

func (w *world) Save(ctx context.Context, from, to source.Cursor) error {
	w.note("save %s-%s", from, to)
	if w.onSave != nil {
		if err := w.onSave(ctx, from, to); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stored == to && to != from {
		return nil // moved by the write of a transactional sink
	}
	if w.stored != from {
		return fmt.Errorf("world: stored %q: %w", w.stored, poller.ErrConflict)
	}
	w.stored = to
	return nil
}

// count returns how many calls began with prefix.
func (w *world) count(prefix string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// steps returns all calls but the fetches: the fetch ahead may begin before or
// after the write.
func (w *world) steps() []string {
	return slices.DeleteFunc(slices.Clone(w.calls), func(c string) bool { return strings.HasPrefix(c, "fetch") })
}

// said returns the log lines with msg.
func (w *world) said(msg string) (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, `msg="`+msg) || strings.Contains(line, "msg="+msg) {
			lines = append(lines, line)
		}
	}
	return lines
}

func seq(from, to int) (s []int) {
	for i := from; i <= to; i++ {
		s = append(s, i)
	}
	return s
}

var errOutage = errors.New("connection refused")

// start runs the poller in the background. The returned function ends its
// context and gives what Run returned.
func start(t *testing.T, p *poller.Poller[int]) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

// until returns a hook that fails with err until d has passed since its first
// call.
func until(d time.Duration, err error) func() error {
	var once sync.Once
	var end time.Time
	return func() error {
		once.Do(func() { end = time.Now().Add(d) })
		if time.Now().Before(end) {
			return err
		}
		return nil
	}
}
