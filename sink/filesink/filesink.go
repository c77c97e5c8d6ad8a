package filesink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"time"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// File is a directory of segments. It is a [sink.Sink] and the
// poller.Checkpointer of the same pipeline. Its methods are safe for concurrent
// use; each waits for the others.
//
// After an error the File reads the directory again and goes on from what is
// committed, so every method may be called again. Errors other than those of
// [sink.Reject] and poller.ErrConflict may pass: a full disk, lost permissions,
// a directory that was moved away.
type File[T any] struct {
	store   *store
	encoder Encoder[T]
	columns func(*T) *row.Columns // nil: records of T all have the same

	buf    []byte
	pieces []piece

	// Of the last record encoded; shape is empty before the first.
	shape string
	last  *row.Columns
}

// keepBuffer is the largest buffer kept while there is nothing to write: a
// process may have many idle pipelines.
const keepBuffer = 64 << 10

// Open opens a directory, making it and its parents if they are not there, and
// locks it until Close. It recovers from whatever a crash left, see the package
// documentation, and refuses what no crash leaves. It counts as a Load: Write
// may follow at once.
//
// The error wraps [ErrInUse] if the directory is open already.
func Open[T any](dir string, o Options[T]) (*File[T], error) {
	if dir == "" { // not the working directory by mistake
		return nil, errors.New("filesink: no directory given: say where to write")
	}
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("filesink: %w", err)
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("filesink: %s: %w", dir, err)
	}
	d, err := openDirectory(path, o.DirMode, o.FileMode)
	if err != nil {
		return nil, fmt.Errorf("filesink: %s: %w%s", path, err, advice(err))
	}
	return openFile(d, path, o, time.Now, rand.Text)
}

func openFile[T any](d directory, path string, o Options[T], now func() time.Time, token func() string) (*File[T], error) {
	s, err := openStore(d, path, settings{
		now: now, token: token,
		name: o.Name, bytes: o.SegmentBytes, rows: o.SegmentRows, age: o.SegmentAge,
		gaps: o.Gaps, onSeal: o.OnSeal, logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	f := &File[T]{store: s, encoder: o.Encoder}
	type columned interface{ Columns() *row.Columns }
	if as := methodOf[T, columned](); as != nil {
		f.columns = func(r *T) *row.Columns {
			if c, ok := as(r); ok {
				return c.Columns()
			}
			return nil
		}
	}
	return f, nil
}

// Write appends the batch's records to the open segment and moves the cursor,
// both or neither, durably. By the rules of poller.Checkpointer it refuses a
// batch that does not begin at the stored cursor with an error that wraps
// poller.ErrConflict, and takes one that is stored already for done. A record
// that cannot be encoded is rejected, see [sink.Reject].
func (f *File[T]) Write(ctx context.Context, b source.Batch[T]) error {
	s := f.store
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if len(b.Records) > 0 && b.From == b.To {
		return s.fault("a batch of %d records does not move the cursor %q", len(b.Records), b.To)
	}
	if done, err := s.compare(b.From, b.To); done || err != nil {
		return err
	}
	defer func() {
		if !b.More && cap(f.buf) > keepBuffer {
			f.buf = nil
		}
	}()
	if err := f.encode(ctx, b.Records); err != nil {
		return err
	}
	return s.commit(ctx, b.From, b.To, f.buf, f.pieces)
}

// encode fills buf with the records, and pieces with what part of it belongs in
// what segment.
func (f *File[T]) encode(ctx context.Context, records []T) (err error) {
	f.buf, f.pieces = f.buf[:0], f.pieces[:0]
	fail := func(i int, err error) error {
		return sink.Reject(fmt.Errorf("filesink: record %d of %d cannot be encoded as %s: %w",
			i+1, len(records), f.encoder.Extension()[1:], err))
	}
	for i := range records {
		if i%1024 == 0 && ctx.Err() != nil {
			return f.store.fail("encode", context.Cause(ctx))
		}
		r := &records[i]
		shape, err := f.shapeOf(r)
		if err != nil {
			return fail(i, err)
		}
		if i == 0 || shape != f.pieces[len(f.pieces)-1].shape {
			f.pieces = append(f.pieces, piece{shape: shape, extension: f.encoder.Extension(), start: len(f.buf)})
			if i > 0 || !f.store.continues(shape) {
				if f.buf, err = f.encoder.Header(f.buf, r); err != nil {
					return fail(i, err)
				}
			}
		}
		before := len(f.buf)
		if f.buf, err = f.encoder.Append(f.buf, r); err == nil && len(f.buf) <= before {
			err = errors.New("the Encoder appended nothing")
		}
		if err != nil {
			return fail(i, err)
		}
		p := &f.pieces[len(f.pieces)-1]
		p.end = len(f.buf)
		p.rows++
	}
	return nil
}

// shapeOf returns a digest of what a segment must have in common with a record
// to take it: the format, the header, the names and kinds of the columns.
func (f *File[T]) shapeOf(r *T) (string, error) {
	var columns *row.Columns
	if f.columns != nil {
		columns = f.columns(r)
	}
	if f.shape != "" && (columns == f.last || columns.Equal(f.last)) {
		f.last = columns // most often the next one's too: compared at once
		return f.shape, nil
	}
	header, err := f.encoder.Header(nil, r)
	if err != nil {
		return "", err
	}
	digest := fnv.New128a()
	fmt.Fprintf(digest, "%q %q", f.encoder.Extension(), header)
	if columns != nil {
		for i := range columns.Len() {
			fmt.Fprintf(digest, " %q %d", columns.Name(i), columns.Kind(i))
		}
	}
	f.shape, f.last = fmt.Sprintf("%x", digest.Sum(nil)), columns
	return f.shape, nil
}

// Load returns the stored cursor.
func (f *File[T]) Load(ctx context.Context) (source.Cursor, error) {
	s := f.store
	if err := s.begin(ctx); err != nil {
		return "", err
	}
	defer s.end()
	s.known = owned{s.cp.Cursor, s.cp.Writer}
	return s.cp.Cursor, nil
}

// Save moves the cursor by the rules of poller.Checkpointer. After a Write of
// the same it has nothing to do.
func (f *File[T]) Save(ctx context.Context, from, to source.Cursor) error {
	s := f.store
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if done, err := s.compare(from, to); done || err != nil {
		return err
	}
	return s.commit(ctx, from, to, nil, nil)
}

// Seal publishes the open segment now. It does nothing if there is none.
func (f *File[T]) Seal(ctx context.Context) error {
	s := f.store
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	return s.seal()
}

// History returns where the pipeline was, newest first, beginning with where it
// is: the last few positions, and of older ones ever fewer, down to the first.
func (f *File[T]) History() ([]Entry, error) {
	s := f.store
	if err := s.begin(context.Background()); err != nil {
		return nil, err
	}
	defer s.end()
	return s.cp.entries(), nil
}

// Rewind sets the cursor, to one of History or any other of the same source, so
// that what comes after it is read again. Output goes on in a new segment;
// those before are left as they are, so it is for whoever rewinds to set aside
// what will come again. A pipeline that is using this File ends with
// poller.ErrConflict, and goes on from the new cursor when it is run again.
func (f *File[T]) Rewind(to source.Cursor) error {
	s := f.store
	if err := s.begin(context.Background()); err != nil {
		return err
	}
	defer s.end()
	return s.rewind(to)
}

// Close releases the directory. Everything written is durable already. The open
// segment stays open, and the next Open goes on with it: call Seal before to
// publish it. Calls of other methods after Close fail with os.ErrClosed; a second
// Close does nothing.
func (f *File[T]) Close() error { return f.store.close() }
