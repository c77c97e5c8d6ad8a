package filesink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A Dir with Gaps stores the records that a sink refuses, each once.
func ExampleOptions_deadLetters() {
	var src sourcetest.Fake[string]
	src.Append("good", "bad", "fine")
	picky := sink.Filter(sink.Func[string](func(_ context.Context, b source.Batch[string]) error {
		if len(b.Records) > 0 {
			return sink.Reject(errors.New("no such colour"))
		}
		return nil
	}), func(s string) bool { return s == "bad" })

	dir := tempDir()
	defer os.RemoveAll(dir)
	letters, err := filesink.Open(filepath.Join(dir, "refused"), filesink.Options[poller.Rejected[string]]{Gaps: true})
	if err != nil {
		log.Fatal(err)
	}
	defer letters.Close()
	saved, err := filesink.Open(filepath.Join(dir, "cursor"), filesink.Options[string]{})
	if err != nil {
		log.Fatal(err)
	}
	defer saved.Close()

	ctx := context.Background()
	p := &poller.Poller[string]{
		Name: "colours", Source: &src, Sink: picky, Checkpointer: saved, DeadLetter: letters,
		Logger: slog.New(slog.DiscardHandler),
	}
	fmt.Println(p.Drain(ctx), letters.Seal(ctx))
	text, err := os.ReadFile(filepath.Join(dir, "refused", "rows-0000000001.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	var r poller.Rejected[string]
	err = json.Unmarshal(text, &r) // one line
	fmt.Println(r.Record, r.From, r.To, r.Err, err)
	// Output:
	// <nil> <nil>
	// bad 1 2 rejected: no such colour <nil>
}
