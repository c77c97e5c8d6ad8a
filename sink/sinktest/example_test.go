package sinktest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

func ExampleFake() {
	out := sinktest.Fake[string]{Refuse: func(s string) error {
		if s == "" {
			return errors.New("empty")
		}
		return nil
	}}
	ctx := context.Background()

	fmt.Println(out.Write(ctx, source.Batch[string]{From: "", To: "2", Records: []string{"a", ""}}))
	fmt.Println(out.Write(ctx, source.Batch[string]{From: "", To: "1", Records: []string{"a"}}))

	out.LoseNext(1, errors.New("connection reset")) // stored, but the caller gets an error
	fmt.Println(out.Write(ctx, source.Batch[string]{From: "1", To: "2", Records: []string{"b"}}))
	fmt.Println(out.Write(ctx, source.Batch[string]{From: "1", To: "2", Records: []string{"b"}}))
	fmt.Println(out.Records())
	// Output:
	// rejected: empty
	// <nil>
	// connection reset
	// <nil>
	// [a b b]
}

// A sink that stores the cursor with the records handles the same lost answer
// correctly.
func ExampleTransactional() {
	var out sinktest.Transactional[string]
	ctx := context.Background()
	b := source.Batch[string]{From: "", To: "1", Records: []string{"a"}}

	out.LoseNext(1, errors.New("connection reset"))
	fmt.Println(out.Write(ctx, b))
	fmt.Println(out.Write(ctx, b))
	fmt.Println(out.Records())

	restarted := out.Open() // as after a crash
	fmt.Println(restarted.Load(ctx))
	// Output:
	// connection reset
	// <nil>
	// [a]
	// 1 <nil>
}

// A few lines test your own sink.
func ExampleTestSink() {
	var out sinktest.Transactional[int]
	err := sinktest.TestSink(context.Background(), sinktest.Options[int]{
		Open: func(context.Context) (sinktest.Opened[int], error) {
			h := out.Open()
			return sinktest.Opened[int]{Sink: h, Checkpointer: h}, nil
		},
		Read:   func(context.Context) ([]int, error) { return out.Records(), nil },
		Record: func(i int) int { return i },
	})
	fmt.Println(err)
	// Output: <nil>
}
