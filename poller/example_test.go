package poller_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// memory is a Checkpointer in memory. It does not survive a restart.
type memory struct{ at source.Cursor }

func (m *memory) Load(context.Context) (source.Cursor, error) { return m.at, nil }

func (m *memory) Save(_ context.Context, from, to source.Cursor) error {
	if m.at != from {
		return poller.ErrConflict
	}
	m.at = to
	return nil
}

// A pipeline made of functions: one reads, one prints, and memory keeps the
// cursor.
func Example() {
	words := []string{"never", "miss", "a", "row"}
	p := &poller.Poller[string]{
		Name: "words",
		Source: source.Func[string](func(_ context.Context, after source.Cursor, limit int) (source.Batch[string], error) {
			from, _ := strconv.Atoi(string(after))
			to := min(from+limit, len(words))
			return source.Batch[string]{
				From:    after,
				To:      source.Cursor(strconv.Itoa(to)),
				Records: words[from:to:to],
				More:    to < len(words),
			}, nil
		}),
		Sink: sink.Func[string](func(_ context.Context, b source.Batch[string]) error {
			fmt.Printf("%q to %q: %v\n", b.From, b.To, b.Records)
			return nil
		}),
		Checkpointer: &memory{},
		BatchSize:    3,
		Logger:       slog.New(slog.DiscardHandler),
	}
	if err := p.Drain(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(p.Status().Records, "records, cursor", p.Status().Cursor)
	// Output:
	// "" to "3": [never miss a]
	// "3" to "4": [row]
	// 4 records, cursor 4
}

// Hooks are functions. One of these counts the records that are delivered.
func ExampleHooks() {
	delivered := 0
	count := poller.Hooks{Poll: func(i poller.PollInfo) { delivered += i.Records }}
	report := poller.Hooks{Poll: func(i poller.PollInfo) { fmt.Println(i.Pipeline, "is at", i.To) }}

	hooks := poller.JoinHooks(count, report)
	hooks.Poll(poller.PollInfo{Pipeline: "orders", To: "42", Records: 42})
	fmt.Println(delivered, "delivered")
	// Output:
	// orders is at 42
	// 42 delivered
}
