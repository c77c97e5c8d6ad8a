package filesink

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/artifactofdevotion/devotion/sink/durable"
	"github.com/artifactofdevotion/devotion/source"
)

const openSuffix = ".open"

// commit appends the pieces of buf and moves the cursor. The first piece joins
// the open segment if it has the same shape. Each other piece begins a new one.
//
// The order makes it atomic: first the data becomes durable, then the names of
// new segments, then the checkpoint, which commits everything. Only then do
// sealed segments get their final names.
func (s *store) commit(ctx context.Context, from source.Cursor, to durable.State, buf []byte, pieces []piece) error {
	if ctx.Err() != nil {
		return s.fail("write", context.Cause(ctx))
	}
	now := s.now().UTC()
	next := s.cp.clone()
	for i, p := range pieces {
		if i > 0 && ctx.Err() != nil { // each piece costs syncs; recovery removes those already written
			return s.damage("write", context.Cause(ctx))
		}
		if i > 0 || !s.continues(p.shape) {
			end := from
			if i > 0 {
				end = to.Cursor
			}
			if err := s.finish(&next, end); err != nil {
				return err
			}
			next.File = segmentName(next.Name, next.Segment, p.extension)
			next.Shape, next.From, next.Opened = p.shape, from, now
		}
		if err := s.append(&next, buf[p.start:p.end], p.rest); err != nil {
			return err
		}
		next.Rows += p.rows
	}
	next.move(to, now)
	if (s.bytes > 0 && next.Offset >= s.bytes) || (s.rows > 0 && next.Rows >= s.rows) {
		if err := s.finish(&next, to.Cursor); err != nil {
			return err
		}
	}
	return s.store(next)
}

// finish seals the open segment in next. Its records end at to.
func (s *store) finish(next *checkpoint, to source.Cursor) error {
	if n := s.announcer.pending().Segments; n >= s.announcer.limit {
		return s.damage("seal a segment", fmt.Errorf("OnSeal has not accepted %d sealed segments: %w", n, s.announcer.pending().Err))
	}
	next.seal(to, s.now().UTC())
	return s.closeSegment()
}

func (s *store) closeSegment() error {
	if s.open == nil {
		return nil
	}
	err := s.open.Close()
	s.open = nil
	if err != nil {
		return s.damage("close a segment", err)
	}
	return nil
}

// append writes data at the end of the open segment of next, and what rest writes after
// it, durably. Rest may be nil.
func (s *store) append(next *checkpoint, data []byte, rest func(io.Writer) error) (err error) {
	name, created := next.File+openSuffix, s.open == nil
	if created {
		if s.open, err = s.dir.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
			s.open = nil
			return s.damage("create "+name, err)
		}
	}
	w := &appender{file: s.open, start: next.Offset}
	if len(data) > 0 {
		_, err = w.Write(data)
	}
	if err == nil && rest != nil {
		err = rest(w)
	}
	if err != nil {
		return s.damage("write to "+name, err)
	}
	if err := s.open.Sync(); err != nil {
		return s.damage("sync "+name, err)
	}
	if created {
		if err := s.dir.Sync(); err != nil {
			return s.damage("sync the directory", err)
		}
	}
	next.Offset += w.size
	next.Tail, next.CRC = w.size, w.crc
	return nil
}

// appender writes to the end of a segment.
type appender struct {
	file        file
	start, size int64
	crc         uint32 // of the bytes written
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.file.WriteAt(p, a.start+a.size)
	a.size, a.crc = a.size+int64(n), crc32.Update(a.crc, castagnoli, p[:n])
	return n, err
}

// save replaces the checkpoint, which commits next.
func (s *store) save(next checkpoint) error {
	next.Sealed = s.announcer.undone(next.Sealed)
	text, err := next.encode()
	if err != nil {
		return s.damage("encode the checkpoint", err)
	}
	if err := durable.Replace(s.dir, checkpointName, text); err != nil {
		return s.damage("replace the checkpoint", err)
	}
	s.cp, s.stored = next, true
	return nil
}

// store saves next, and publishes the segments that it seals.
func (s *store) store(next checkpoint) error {
	first := s.cp.Segment
	if err := s.save(next); err != nil {
		return err
	}
	return s.publish(slices.DeleteFunc(slices.Clone(s.cp.Sealed), func(seg sealed) bool { return seg.number() < first }))
}

// publish gives segments their final names, and lets all sealed ones be announced.
// A later checkpoint stores that this is done, so a crash before it announces them
// again.
func (s *store) publish(unnamed []sealed) error {
	for _, seg := range unnamed {
		if err := s.dir.Rename(seg.File+openSuffix, seg.File); err != nil {
			return s.damage("publish "+seg.File, err)
		}
	}
	if len(unnamed) > 0 {
		if err := s.dir.Sync(); err != nil {
			return s.damage("sync the directory", err)
		}
	}
	s.announcer.add(s.cp.Sealed)
	return nil
}

func (s *store) seal() error {
	if s.cp.Offset == 0 {
		return nil
	}
	next := s.cp.clone()
	if err := s.finish(&next, next.Cursor); err != nil {
		return err
	}
	return s.store(next)
}

func (s *store) rewind(to source.Cursor) error {
	rewound, err := durable.Rewound(s.cp.state(), to)
	if err != nil {
		return s.fail("rewind", err)
	}
	next := s.cp.clone()
	if err := s.finish(&next, next.Cursor); err != nil {
		return err
	}
	next.rewound(next.Cursor, to)
	next.move(rewound, s.now().UTC())
	return s.store(next)
}

// damage ends all use of the open file. The effect of a failed call is unknown,
// and after a failed sync the kernel may have dropped the data although a second
// sync succeeds. The next method recovers the committed state, and the data is
// written again.
func (s *store) damage(op string, err error) error {
	s.broken = true
	if s.open != nil {
		err = errors.Join(err, s.open.Close())
		s.open = nil
	}
	return s.fail(op, err)
}
