package filecheckpoint_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/poller/filecheckpoint"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	path := filepath.Join(dir, "orders.json")

	// A Poller does this.
	pipeline, err := filecheckpoint.Open(path, filecheckpoint.Options{})
	if err != nil {
		panic(err)
	}
	cursor, err := pipeline.Load(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(pipeline.Save(ctx, cursor, "order 100"), pipeline.Save(ctx, "order 100", "order 200"))

	// A person does this to have the last orders sent again.
	operator, err := filecheckpoint.Open(path, filecheckpoint.Options{})
	if err != nil {
		panic(err)
	}
	history, err := operator.History()
	if err != nil {
		panic(err)
	}
	for _, e := range history {
		fmt.Println(e.Cursor)
	}
	fmt.Println(operator.Rewind(history[1].Cursor))

	// The pipeline gets a conflict. Started again, it goes on from there.
	fmt.Println(pipeline.Save(ctx, "order 200", "order 300") != nil)
	fmt.Println(pipeline.Load(ctx))
	// Output:
	// <nil> <nil>
	// order 200
	// order 100
	// <nil>
	// true
	// order 100 <nil>
}
