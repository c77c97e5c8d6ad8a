package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

// Totals is a sink that adds amounts up in a small file, each exactly once, and
// the Checkpointer of the same pipeline.
type Totals struct {
	Path  string
	fence durable.Fence
}

type totals struct {
	durable.State
	Sum int
}

// Write adds the amounts to the sum and moves the cursor, both or neither.
func (t *Totals) Write(ctx context.Context, b source.Batch[int]) error {
	if err := t.fence.Check(b.From, b.To); err != nil {
		return fmt.Errorf("totals: %w", err)
	}
	return t.locked(ctx, func(stored totals) error {
		next, moved, err := t.fence.Move(stored.State, b.From, b.To)
		if err != nil || !moved {
			return err // not moved: an earlier attempt was stored
		}
		stored.State = next
		for _, amount := range b.Records {
			stored.Sum += amount
		}
		text, err := json.Marshal(stored)
		if err != nil {
			return err
		}
		return durable.ReplaceFile(t.Path, text, 0o600)
	})
}

// Load returns the stored cursor.
func (t *Totals) Load(ctx context.Context) (cursor source.Cursor, err error) {
	err = t.locked(ctx, func(stored totals) error {
		// The file read may be there by a rename that is not durable yet.
		if err := durable.SyncDir(filepath.Dir(t.Path)); err != nil {
			return err
		}
		t.fence.Loaded(stored.State)
		cursor = stored.Cursor
		return nil
	})
	return cursor, err
}

// Save moves the cursor alone. After a Write of the same it stores nothing.
func (t *Totals) Save(ctx context.Context, from, to source.Cursor) error {
	return t.Write(ctx, source.Batch[int]{From: from, To: to})
}

// locked reads the file and calls do while no other handle can write it.
func (t *Totals) locked(ctx context.Context, do func(totals) error) error {
	lock, err := os.OpenFile(t.Path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("totals: %w", err)
	}
	if err := durable.Lock(ctx, lock); err != nil {
		return errors.Join(fmt.Errorf("totals: lock %s: %w", lock.Name(), err), lock.Close())
	}
	defer durable.Unlock(lock) //nolint:errcheck // nothing is written to its file
	var stored totals
	text, err := os.ReadFile(t.Path)
	switch {
	case err == nil:
		err = json.Unmarshal(text, &stored)
	case errors.Is(err, fs.ErrNotExist):
		err = nil // nothing is stored yet
	}
	if err == nil {
		err = do(stored)
	}
	if err != nil {
		return fmt.Errorf("totals: %s: %w", t.Path, err)
	}
	return nil
}

// A whole exactly-once sink. The second handle stands for a second process.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx, path := context.Background(), filepath.Join(dir, "totals.json")

	first, second := &Totals{Path: path}, &Totals{Path: path}
	at, err := first.Load(ctx)
	fmt.Printf("%q %v\n", at, err)
	batch := source.Batch[int]{From: "", To: "2", Records: []int{10, 20}}
	fmt.Println(first.Write(ctx, batch))
	fmt.Println(first.Write(ctx, batch)) // again, as after a lost answer
	fmt.Println(first.Save(ctx, "", "2"))

	at, err = second.Load(ctx)
	fmt.Println(at, err)
	fmt.Println(second.Write(ctx, source.Batch[int]{From: at, To: "3", Records: []int{5}}))
	fmt.Println(first.Write(ctx, source.Batch[int]{From: at, To: "3", Records: []int{5}}) != nil) // a conflict

	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	var stored totals
	fmt.Println(json.Unmarshal(text, &stored), stored.Cursor, stored.Sum)
	// Output:
	// "" <nil>
	// <nil>
	// <nil>
	// <nil>
	// 2 <nil>
	// <nil>
	// true
	// <nil> 3 35
}
