package filesink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Dir is a directory of segments. It is a [sink.Sink] and the poller.Checkpointer
// of the same pipeline. Its methods are safe for concurrent use; each waits for
// the others.
//
// After an error the Dir recovers what is committed, so every method may be
// called again. Errors other than those of [sink.Reject] and [sink.ErrConflict]
// may be temporary: a full disk, missing permissions, a directory that was moved.
type Dir[T any] struct {
	store   *store
	encoder Encoder[T]
	lines   lines[T]                  // the encoder, nil if it does not make lines
	columns func(*T) (columned, bool) // nil: all records of T have the same columns

	buf    []byte
	line   []byte // of postponed records
	pieces []piece

	shape string       // of the last record encoded; empty before the first
	last  *row.Columns // of the last record encoded
}

// keepBuffer is the largest buffer in bytes that is kept between batches: a
// process may have many idle pipelines.
const keepBuffer = 64 << 10

// maxBuffer is about how many bytes of a piece are encoded in memory before they are
// written, if the encoder makes lines. The records after them are encoded once to find
// those that cannot be, and again when they are written.
const maxBuffer = 8 << 20

var errNoDir = errors.New("filesink: the directory is empty: name the directory that has the segments") // not the working directory

// Open opens a directory and locks it until Close. It creates the directory and
// its parents if they do not exist, unless Options.MustExist is set. It recovers
// from a crash, and returns an error if it finds what no crash can leave. It counts
// as a Load: Write may follow.
//
// If the disk is full or fails, or the process has no descriptors left, Open returns
// a Dir and no error: that is an outage, which may pass. Each method tries to open
// the directory again, and returns the error until it succeeds.
//
// The error wraps [ErrInUse] if the directory is open already.
func Open[T any](dir string, o Options[T]) (*Dir[T], error) {
	if dir == "" {
		return nil, errNoDir
	}
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("filesink: %w", err)
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("filesink: %s: %w", dir, err)
	}
	return openDir(path, o, system{
		openDir: func() (directory, error) { return openDirectory(path, o.MustExist, o.DirMode, o.FileMode) },
		now:     time.Now,
		spawn:   (*sync.WaitGroup).Go,
	})
}

func openDir[T any](path string, o Options[T], system system) (*Dir[T], error) {
	s, err := openStore(path, settings{
		system: system,
		name:   o.Name, bytes: o.SegmentBytes, rows: o.SegmentRows, age: o.SegmentAge,
		mustExist: o.MustExist, onSeal: o.OnSeal, logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	d := &Dir[T]{store: s, encoder: o.Encoder, columns: methodOf[T, columned]()}
	d.lines, _ = o.Encoder.(lines[T])
	return d, nil
}

// columned is a record whose columns may differ from those of the record before.
type columned interface{ Columns() *row.Columns }

// Write appends the batch's records to the open segment and moves the cursor,
// both or neither, durably. By the rules of poller.Checkpointer, the error wraps
// [sink.ErrConflict] if the batch does not begin at the stored cursor, and Write
// does nothing if this Dir has stored the batch before. A record that cannot be
// encoded is rejected, see [sink.Reject].
func (d *Dir[T]) Write(ctx context.Context, b source.Batch[T]) error {
	return d.store.do(ctx, func() error { return d.write(ctx, b) })
}

func (d *Dir[T]) write(ctx context.Context, b source.Batch[T]) error {
	s := d.store
	if len(b.Records) > 0 && b.From == b.To {
		return s.fault("a batch of %d records does not move the cursor %q", len(b.Records), b.To.Short())
	}
	next, done, err := s.compare(b.From, b.To)
	if done || err != nil {
		return err
	}
	defer func() {
		if !b.More && cap(d.buf) > keepBuffer || cap(d.buf) > 2*maxBuffer {
			d.buf, d.line = nil, nil
		}
		clear(d.pieces) // they hold the records
	}()
	if err := d.encode(ctx, b.Records); err != nil {
		return err
	}
	return s.commit(ctx, b.From, next, d.buf, d.pieces)
}

// Load returns the stored cursor.
func (d *Dir[T]) Load(ctx context.Context) (cursor source.Cursor, err error) {
	err = d.store.do(ctx, func() error {
		cursor = d.store.cp.Cursor
		d.store.fence.Loaded(d.store.cp.state())
		return nil
	})
	return cursor, err
}

// Save moves the cursor by the rules of poller.Checkpointer. After Write has moved
// it, Save does nothing.
func (d *Dir[T]) Save(ctx context.Context, from, to source.Cursor) error {
	return d.Write(ctx, source.Batch[T]{From: from, To: to})
}

// Seal seals the open segment, if there is one, and waits until OnSeal has returned
// nil for every sealed segment. If ctx ends first, the error has the last one of
// OnSeal.
func (d *Dir[T]) Seal(ctx context.Context) error {
	if err := d.store.do(ctx, d.store.seal); err != nil {
		return err
	}
	if err := d.store.announcer.wait(ctx, d.store.due.closing); err != nil {
		return d.store.fault("%w", err)
	}
	return nil
}

// Pending says for how many sealed segments OnSeal has not returned nil yet. It does
// not wait for other methods. Set Poller.Uploads to it, so that Status, the status page
// and the metrics show its lag. Since is when the Dir was opened if an earlier release
// sealed the oldest segment.
func (d *Dir[T]) Pending() sink.Pending { return d.store.announcer.pending() }

// History returns stored cursors, newest first, beginning with the current one:
// the last few, and fewer and fewer of the older ones, down to the first.
func (d *Dir[T]) History() (entries []Entry, err error) {
	err = d.store.do(context.Background(), func() error {
		entries = d.store.cp.entries()
		return nil
	})
	return entries, err
}

// Rewind sets the cursor to one of History, or to any other cursor of the same
// source, so that the records after it are read again. Output goes on in a new
// segment. Rewind does not change the earlier segments: whoever rewinds must set
// aside the records that will come again. A pipeline that uses this Dir ends with
// [sink.ErrConflict]; when it runs again, it goes on from the new cursor.
func (d *Dir[T]) Rewind(to source.Cursor) error {
	return d.store.do(context.Background(), func() error { return d.store.rewind(to) })
}

// Close releases the directory. It does not seal the open segment: the next Open
// goes on with it; call Seal first to seal it. After Close, other methods return
// an error that wraps os.ErrClosed. A second Close does nothing.
func (d *Dir[T]) Close() error { return d.store.close() }

// History returns the stored cursors like [Dir.History], without opening the
// directory. It takes no lock, changes nothing, and may be called while a pipeline
// writes to the directory, in this process or another. The newest entry may not be
// durable yet. On Windows, a commit of the pipeline may fail while the file is
// read; the pipeline retries it.
//
// The error wraps [os.ErrNotExist] if nothing was ever written there.
func History(dir string) ([]Entry, error) {
	cp, err := readCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	return cp.entries(), nil
}

// readCheckpoint reads the checkpoint of a directory that may be in use: it is
// always replaced whole.
func readCheckpoint(dir string) (checkpoint, error) {
	if dir == "" {
		return checkpoint{}, errNoDir
	}
	text, err := os.ReadFile(filepath.Join(dir, checkpointName))
	if err != nil {
		return checkpoint{}, fmt.Errorf("filesink: %s: read the checkpoint: %w", dir, err)
	}
	cp, err := decodeCheckpoint(text)
	if err != nil {
		return cp, fmt.Errorf("filesink: %s: the checkpoint cannot be used: %w", dir, err)
	}
	return cp, nil
}
