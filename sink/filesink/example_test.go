package filesink_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

// Example polls a source into files, exactly once: the Dir is Sink and
// Checkpointer.
func Example() {
	type Order struct {
		ID       int    `json:"id"`
		Customer string `json:"customer"`
	}
	var orders sourcetest.Fake[Order] // in place of a database
	orders.Append(Order{1, "ada"}, Order{2, "grace"}, Order{3, "edsger"})

	dir := tempDir()
	defer os.RemoveAll(dir)
	files, err := filesink.Open(dir, filesink.Options[Order]{Name: "orders"})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()

	ctx := context.Background()
	p := &poller.Poller[Order]{Name: "orders", Source: &orders, Sink: files, Checkpointer: files}
	if err := p.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	if err := files.Seal(ctx); err != nil { // seal the open segment
		log.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "orders-0000000001.jsonl"))
	fmt.Print(string(text), err)
	// Output:
	// {"id":1,"customer":"ada"}
	// {"id":2,"customer":"grace"}
	// {"id":3,"customer":"edsger"}
	// <nil>
}

func ExampleOptions() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	files, err := filesink.Open(dir, filesink.Options[string]{
		Name:        "words",
		SegmentRows: 2,
		OnSeal: func(_ context.Context, s filesink.Segment) error { // upload it, for example
			fmt.Printf("%s: %d rows, %d bytes, after %q up to %q\n", filepath.Base(s.Path), s.Rows, s.Bytes, s.From, s.To)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	ctx := context.Background()
	err = errors.Join(
		files.Write(ctx, source.Batch[string]{From: "", To: "b", Records: []string{"a", "b"}}),
		files.Write(ctx, source.Batch[string]{From: "b", To: "c", Records: []string{"c"}}),
		files.Seal(ctx), // waits for OnSeal
	)
	fmt.Println(err)
	// Output:
	// words-0000000001.jsonl: 2 rows, 8 bytes, after "" up to "b"
	// words-0000000002.jsonl: 1 rows, 4 bytes, after "b" up to "c"
	// <nil>
}

// The lag of uploads as a metric, here one of package expvar.
func ExampleDir_Pending() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	files, err := filesink.Open(dir, filesink.Options[string]{
		OnSeal: func(context.Context, filesink.Segment) error { return nil }, // uploads it
	})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	expvar.Publish("upload_lag_seconds", expvar.Func(func() any { return files.Pending().Lag(time.Now()).Seconds() }))
	fmt.Println(expvar.Get("upload_lag_seconds"))
	// Output:
	// 0
}

func ExampleCSV() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	files, err := filesink.Open(dir, filesink.Options[row.Row]{Name: "people", Encoder: filesink.CSV[row.Row]()})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	columns := row.NewColumns([]string{"id", "name"}, nil)
	known, _ := row.Of(columns, int64(1), "Lovelace, Ada")
	empty, _ := row.Of(columns, int64(2), "")
	null, _ := row.Of(columns, int64(3), nil)
	ctx := context.Background()
	if err := files.Write(ctx, source.Batch[row.Row]{To: "3", Records: []row.Row{known, empty, null}}); err != nil {
		log.Fatal(err)
	}
	if err := files.Seal(ctx); err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "people-0000000001.csv"))
	fmt.Print(strings.ReplaceAll(string(text), "\r\n", "\n"), err)
	// Output:
	// id,name
	// 1,"Lovelace, Ada"
	// 2,""
	// 3,
	// <nil>
}

// After Rewind a range is read again, from any cursor of the history.
func ExampleDir_Rewind() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	files, err := filesink.Open(dir, filesink.Options[string]{})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	ctx := context.Background()
	for _, b := range []source.Batch[string]{
		{From: "", To: "1", Records: []string{"one"}},
		{From: "1", To: "2", Records: []string{"two"}},
		{From: "2", To: "3", Records: []string{"three"}},
	} {
		if err := files.Write(ctx, b); err != nil {
			log.Fatal(err)
		}
	}
	history, err := files.History()
	for _, e := range history {
		fmt.Printf("%q: %d rows, %d bytes of %q\n", e.Cursor, e.Rows, e.Offset, e.Segment)
	}
	fmt.Println(err, files.Rewind("1"))
	fmt.Println(files.Load(ctx))
	// Output:
	// "3": 3 rows, 20 bytes of "rows-0000000001.jsonl"
	// "2": 2 rows, 12 bytes of "rows-0000000001.jsonl"
	// "1": 1 rows, 6 bytes of "rows-0000000001.jsonl"
	// "": 0 rows, 0 bytes of ""
	// <nil> <nil>
	// 1 <nil>
}

func tempDir() string {
	dir, err := os.MkdirTemp("", "filesink")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}
