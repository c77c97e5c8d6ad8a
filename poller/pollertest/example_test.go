package pollertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// A pipeline of fakes is crashed at every call, restarted, and crashed again during
// its recovery. Replace the fakes by the parts under test; open a real sink in Start
// and close it in Kill.
func ExampleExplore() {
	n, err := pollertest.Explore(context.Background(), pollertest.Exploration[int]{
		Expected:    []int{1, 2, 3, 4, 5},
		ExactlyOnce: true,
		New: func(context.Context) (pollertest.Machine[int], error) {
			var src sourcetest.Fake[int]
			var out sinktest.Transactional[int]
			src.Append(1, 2, 3, 4, 5)
			return pollertest.Machine[int]{
				Start: func(context.Context) (*poller.Poller[int], error) {
					out := out.Open()
					return &poller.Poller[int]{Name: "numbers", Source: &src, Sink: out, Checkpointer: out, BatchSize: 2}, nil
				},
				Delivered: func(context.Context) ([]int, error) { return out.Records(), nil },
			}, nil
		},
	})
	fmt.Println(n, "scenarios:", err)
	// Output: 618 scenarios: <nil>
}

// A sink that stores records only delivers a batch again after a crash. Explore
// shows where.
func ExampleExplore_atLeastOnce() {
	_, err := pollertest.Explore(context.Background(), pollertest.Exploration[string]{
		Expected:    []string{"a", "b"},
		ExactlyOnce: true, // which is wrong
		New: func(context.Context) (pollertest.Machine[string], error) {
			var src sourcetest.Fake[string]
			var out sinktest.Fake[string]
			var saved pollertest.Checkpointer
			src.Append("a", "b")
			return pollertest.Machine[string]{
				Start: func(context.Context) (*poller.Poller[string], error) {
					return &poller.Poller[string]{Name: "letters", Source: &src, Sink: &out, Checkpointer: saved.Open()}, nil
				},
				Delivered: func(context.Context) ([]string, error) { return out.Records(), nil },
			}, nil
		},
	})
	fmt.Println(err)
	// Output:
	// pollertest: crash after the effect of Write #1: record "a" delivered twice (2 twice of 2)
	// pollertest: answer lost of Write #1: record "a" delivered twice (2 twice of 2)
	// pollertest: crash before Save #1: record "a" delivered twice (2 twice of 2)
}

func ExampleRecorder() {
	var src sourcetest.Fake[int]
	var out sinktest.Transactional[int]
	var rec pollertest.Recorder
	src.Append(1, 2, 3)
	out.FailNext(1, errors.New("disk gone")) // the load
	p := &poller.Poller[int]{
		Name: "numbers", Source: &src, Sink: &out, Checkpointer: &out,
		Hooks: rec.Hooks(), Logger: rec.Logger(),
	}
	err := p.Drain(context.Background())
	fmt.Println(out.Records(), err)
	for _, b := range rec.Backoffs() {
		fmt.Println(b.Op, "failed:", b.Err)
	}
	fmt.Println(len(rec.Polls()), "poll")
	// Output:
	// [1 2 3] <nil>
	// load failed: disk gone
	// 1 poll
}

// A few lines test your own checkpointer.
func ExampleTestCheckpointer() {
	var store pollertest.Checkpointer
	err := pollertest.TestCheckpointer(context.Background(), pollertest.Options{
		Open: func(context.Context) (pollertest.Opened, error) {
			return pollertest.Opened{Checkpointer: store.Open()}, nil
		},
		Rewind: func(_ context.Context, to source.Cursor) error { store.Rewind(to); return nil },
	})
	fmt.Println(err)
	// Output: <nil>
}

// The test in the documentation of this package.
func TestOutageOfAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fakes pollertest.Fakes[int]
		stop := pollertest.Start(t.Context(), fakes.Poller("numbers"))

		fakes.Source.Fail(errors.New("database is down"))
		fakes.Source.Append(1, 2)
		time.Sleep(time.Hour) // returns at once
		fakes.Source.Heal()
		time.Sleep(time.Minute)

		if err := stop(); err != nil || len(fakes.Sink.Records()) != 2 {
			t.Errorf("delivered %v: %v", fakes.Sink.Records(), err)
		}
	})
}
