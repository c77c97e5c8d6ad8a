package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A sink refuses a colour, learns it, and gets it from the dead letters.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var colours sourcetest.Fake[string]
	colours.Append("red", "ultraviolet", "blue")
	known := map[string]bool{"red": true, "blue": true}
	paint := sink.Each(1, func(_ context.Context, colour string) error {
		if !known[colour] {
			return sink.Reject(errors.New("no such colour"))
		}
		fmt.Println("painted", colour)
		return nil
	})

	letters, err := deadletter.Open[string](filepath.Join(dir, "letters"), deadletter.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer letters.Close()
	run := func(p *poller.Poller[string]) {
		p.Logger = slog.New(slog.DiscardHandler)
		p.Checkpointer, err = filecheckpoint.Open(filepath.Join(dir, p.Name), filecheckpoint.Options{})
		if err == nil {
			err = p.Drain(ctx)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	run(&poller.Poller[string]{Name: "paint", Source: &colours, Sink: paint, DeadLetter: letters})
	for l, err := range deadletter.List(filepath.Join(dir, "letters")) {
		fmt.Println(string(l.Record), l.Error, err)
	}

	known["ultraviolet"] = true
	run(&poller.Poller[string]{
		Name:   "paint-replay",
		Source: &deadletter.Source[string]{Dir: filepath.Join(dir, "letters"), Refetch: &colours},
		Sink:   paint,
	})
	// Output:
	// painted red
	// painted blue
	// "ultraviolet" rejected: no such colour <nil>
	// painted ultraviolet
}
