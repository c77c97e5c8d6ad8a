package filesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"

	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source/row"
)

// encode fills buf with the records, and pieces with the parts of buf that go
// into different segments.
func (d *Dir[T]) encode(ctx context.Context, records []T) (err error) {
	d.buf, d.pieces = d.buf[:0], d.pieces[:0]
	fail := func(i int, err error) error {
		return sink.Reject(fmt.Errorf("filesink: record %d of %d cannot be encoded as %s: %w",
			i+1, len(records), d.encoder.Extension()[1:], err))
	}
	for i := range records {
		if i%1024 == 0 && ctx.Err() != nil {
			return d.store.fail("encode", context.Cause(ctx))
		}
		r := &records[i]
		shape, err := d.shapeOf(r)
		if err != nil {
			return fail(i, err)
		}
		if i == 0 || shape != d.pieces[len(d.pieces)-1].shape {
			if err := d.endPiece(); err != nil {
				return err
			}
			d.pieces = append(d.pieces, piece{shape: shape, extension: d.encoder.Extension(), start: len(d.buf)})
			if i > 0 || !d.store.continues(shape) {
				if d.buf, err = d.encoder.Header(d.buf, r); err != nil {
					return fail(i, err)
				}
			}
		}
		p := &d.pieces[len(d.pieces)-1]
		if d.postpones(p, r) {
			err = d.postpone(p, records[i-p.later:i+1])
		} else {
			d.buf, err = d.append(d.buf, r)
		}
		if err != nil {
			return fail(i, err)
		}
		p.rows++
	}
	return d.endPiece()
}

// append encodes a record into a buffer. A large one is doubled: the built-in append would let
// it grow by a quarter, and leave five times its size to the collector.
func (d *Dir[T]) append(buf []byte, r *T) ([]byte, error) {
	before := len(buf)
	if before >= maxBuffer/2 && cap(buf)-before < largeRecord {
		buf = slices.Grow(buf, cap(buf))
	}
	buf, err := d.encoder.Append(buf, r)
	if err == nil && len(buf) <= before {
		err = errors.New("the Encoder appended nothing")
	}
	return buf, err
}

// postpones reports whether a record of p is encoded only when it is written.
func (d *Dir[T]) postpones(p *piece, r *T) bool {
	return d.lines != nil && (p.rest != nil || len(d.buf)-p.start >= maxBuffer || d.lines.large(r) != nil)
}

// postpone makes records those of p that are encoded when they are written. The last
// one is new. An error means that it cannot be encoded.
func (d *Dir[T]) postpone(p *piece, records []T) error {
	if err := d.writeLines(io.Discard, records[len(records)-1:]); err != nil {
		return err
	}
	p.later, p.rest = len(records), func(w io.Writer) error { return d.writeLines(w, records) }
	return nil
}

// writeLines encodes records and writes them.
func (d *Dir[T]) writeLines(w io.Writer, records []T) (err error) {
	const enough = 256 << 10
	d.line = d.line[:0]
	flush := func() (err error) {
		if len(d.line) > 0 {
			_, err = w.Write(d.line)
		}
		d.line = d.line[:0]
		return err
	}
	for i := range records {
		if write := d.lines.large(&records[i]); write != nil {
			if err = flush(); err == nil {
				err = write(w)
			}
			if err != nil {
				return err
			}
			continue
		}
		if d.line, err = d.append(d.line, &records[i]); err != nil {
			return err
		}
		if len(d.line) >= enough {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// endPiece ends the last piece, if there is one.
func (d *Dir[T]) endPiece() (err error) {
	if len(d.pieces) == 0 {
		return nil
	}
	p, s := &d.pieces[len(d.pieces)-1], d.store
	if p.rest != nil { // they are lines
		p.end = len(d.buf)
		return nil
	}
	before := io.NewSectionReader(bytes.NewReader(nil), 0, 0)
	if len(d.pieces) == 1 && s.continues(p.shape) {
		before = io.NewSectionReader(s.open, 0, s.cp.Offset)
	}
	if d.buf, err = d.encoder.End(d.buf, p.start, before); err == nil && len(d.buf) <= p.start {
		err = errors.New("the Encoder's End left nothing")
	}
	if err != nil {
		return s.fail("encode", err)
	}
	p.end = len(d.buf)
	return nil
}

// shapeOf returns a digest of what a record shares with the segment it goes into:
// the format, the header, and the names and kinds of the columns.
func (d *Dir[T]) shapeOf(r *T) (string, error) {
	var columns *row.Columns
	if d.columns != nil {
		if c, ok := d.columns(r); ok {
			columns = c.Columns()
		}
	}
	if d.shape != "" && (columns == d.last || columns.Equal(d.last)) {
		d.last = columns // the next record often has the same pointer
		return d.shape, nil
	}
	header, err := d.encoder.Header(nil, r)
	if err != nil {
		return "", err
	}
	digest := fnv.New128a()
	fmt.Fprintf(digest, "%q %q", d.encoder.Extension(), header)
	if columns != nil {
		for i := range columns.Len() {
			fmt.Fprintf(digest, " %q %d", columns.Name(i), columns.Kind(i))
		}
	}
	d.shape, d.last = fmt.Sprintf("%x", digest.Sum(nil)), columns
	return d.shape, nil
}
