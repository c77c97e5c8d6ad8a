package filesink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Part is a segment of a directory, up to its committed size, see [Committed].
type Part struct {
	Number uint64 // of the segment; the first one has 1
	Path   string // final path of the segment, also while it is open
	Bytes  int64  // committed size
	Open   bool   // whether it was the open segment
}

// Committed returns the segments of a directory, oldest first, with their committed
// sizes. The open segment is the last one. Segments that consumers have taken are
// missing.
//
// Committed takes no lock, changes nothing, and may be called while a pipeline
// writes to the directory. The error wraps [os.ErrNotExist] if nothing was ever
// written there.
func Committed(dir string) ([]Part, error) {
	c, err := ReadContents(dir)
	return c.Parts, err
}

// Contents are what a directory held at one moment.
type Contents struct {
	Cursor source.Cursor
	Parts  []Part // see Committed
	Count  uint64 // how many segments were written, with those that were taken

	// Created is when the directory was opened first. It tells one directory from
	// another one that has replaced it.
	Created time.Time

	// Rewinds are the calls of [Dir.Rewind], oldest first: the last 50. Those of
	// releases before this field existed are not in it.
	Rewinds []Rewind
}

// Rewind is a call of [Dir.Rewind], or several calls without a record between them.
type Rewind struct {
	// Segment is the number of the first segment after it. That segment may not
	// exist yet.
	Segment uint64 `json:"segment"`

	// From is the cursor up to which the records before it were written, and To
	// the cursor after which those after it follow.
	From source.Cursor `json:"from"`
	To   source.Cursor `json:"to"`
}

// ReadContents returns the segments of a directory like [Committed], with the cursor
// up to which they were written.
func ReadContents(dir string) (c Contents, err error) {
	cp, err := readCheckpoint(dir)
	if err != nil {
		return c, err
	}
	c = Contents{Cursor: cp.Cursor, Count: cp.Segment - 1, Rewinds: cp.Rewinds}
	if len(cp.History) > 0 {
		c.Created = cp.History[0].Time // the first entry is never removed
	}
	if cp.Offset > 0 {
		c.Count++
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return c, fmt.Errorf("filesink: %s: list the directory: %w", dir, err)
	}
	c.Parts, err = committedParts(dir, cp, entries)
	return c, err
}

// committedParts returns the parts of a checkpoint. The list of the directory is newer,
// so it may have segments that were sealed since. Their numbers tell.
func committedParts(dir string, cp checkpoint, entries []fs.DirEntry) ([]Part, error) {
	sealed := map[uint64]Part{}
	for _, e := range entries {
		of, number, ok := parseSegment(e.Name())
		if !ok || of != cp.Name || number >= cp.Segment || strings.HasSuffix(e.Name(), openSuffix) {
			continue
		}
		switch info, err := e.Info(); {
		case err == nil:
			sealed[number] = Part{Number: number, Path: filepath.Join(dir, e.Name()), Bytes: info.Size()}
		case !errors.Is(err, fs.ErrNotExist): // a consumer has taken it
			return nil, fmt.Errorf("filesink: %s: %w", dir, err)
		}
	}
	for _, seg := range cp.Sealed { // may have their open names, in the list at least
		final := filepath.Join(dir, seg.File)
		_, err := os.Lstat(final + openSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			_, err = os.Lstat(final)
		}
		if err == nil {
			sealed[seg.number()] = Part{Number: seg.number(), Path: final, Bytes: seg.Bytes}
		}
	}
	parts := make([]Part, 0, len(sealed)+1)
	for _, p := range sealed {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b Part) int { return int(a.Number) - int(b.Number) })
	if cp.Offset > 0 {
		parts = append(parts, Part{Number: cp.Segment, Path: filepath.Join(dir, cp.File), Bytes: cp.Offset, Open: true})
	}
	return parts, nil
}

// Reader opens the segment for reading from an offset to its committed size. The
// caller closes it. It finds the segment under its open name and its final name.
// The error wraps [os.ErrNotExist] if a consumer has taken the segment.
func (p Part) Reader(offset int64) (io.ReadCloser, error) {
	f, err := os.Open(p.Path + openSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(p.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("filesink: %w", err)
	}
	if offset < 0 || offset > p.Bytes {
		return nil, errors.Join(fmt.Errorf("filesink: %s: offset %d is not in the %d committed bytes", p.Path, offset, p.Bytes), f.Close())
	}
	return partReader{io.NewSectionReader(f, offset, p.Bytes-offset), f}, nil
}

type partReader struct {
	io.Reader
	io.Closer
}
