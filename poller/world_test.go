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
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// world is the source, sink and checkpointer of a pipeline of ints. Tests can change
// how they behave, also against their contracts, which pollertest.Fakes keep. The
// order of all calls is recorded. The cursor after record i is the text of i. Mu guards the
// fields, because fetch and write run concurrently.
type world struct {
	mu      sync.Mutex
	records []int
	written []int
	stored  source.Cursor
	calls   []string // such as "fetch 3+2", "write 3-5", "save 3-5", in the order they began
	log     bytes.Buffer

	// Each of these may be nil. If one returns an error, the call returns it and
	// has no effect.
	onLoad  func(ctx context.Context) error
	onFetch func(ctx context.Context, after source.Cursor, limit int) error
	onWrite func(ctx context.Context, b source.Batch[int]) error
	onSave  func(ctx context.Context, from, to source.Cursor) error
	answer  func(b *source.Batch[int]) // changes the batch that a fetch returns
}

func newWorld(n int) *world {
	w := &world{}
	w.add(n)
	return w
}

// add appends n records. Records are numbered from 1.
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

func (w *world) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[int], error) {
	w.note("fetch %s+%d", after, limit)
	if w.onFetch != nil {
		if err := w.onFetch(ctx, after, limit); err != nil {
			return source.Batch[int]{}, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	from := position(after)
	to := min(from+limit, len(w.records))
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
		return nil // moved by the write of an exactly-once sink
	}
	if w.stored != from {
		return fmt.Errorf("world: stored %q: %w", w.stored, poller.ErrConflict)
	}
	w.stored = to
	return nil
}

// count returns the number of calls that begin with prefix.
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

// steps returns all calls except fetches: a prefetch may begin before or after the
// write.
func (w *world) steps() []string {
	return slices.DeleteFunc(slices.Clone(w.calls), func(c string) bool { return strings.HasPrefix(c, "fetch") })
}

// logged returns the log lines whose message begins with msg.
func (w *world) logged(msg string) (lines []string) {
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

// start runs the poller in the background until the returned function is called.
func start(t *testing.T, p *poller.Poller[int]) (stop func() error) {
	return pollertest.Start(t.Context(), p)
}

// until returns a hook that returns err until d has passed since its first call.
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
