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

	"github.com/artifactofdevotion/devotion/source"
)

// Contents are what is committed in a directory, see [Committed].
type Contents struct {
	Name   string        // the first part of the segments' names
	Cursor source.Cursor // all records are at or before it, unless it was rewound

	// Rewound is true if the cursor may stand before records in Segments: it was set
	// by [Dir.Rewind], and no record was written since.
	Rewound bool

	// Segments are the segments in the directory, in order. Those that a consumer
	// has taken are not among them.
	Segments []Stored

	// Count is how many segments were written, with those that were taken.
	Count uint64
}

// Stored is a segment in a directory.
type Stored struct {
	Path   string // with its final name, which an open segment does not have yet
	Number uint64 // consecutive, from 1
	bytes  int64  // committed bytes; -1: the whole file
}

// Committed returns what is committed in a directory, for reading it next to the
// pipeline. Like [History] it takes no lock and changes nothing. Records that are
// committed later are not part of the result.
//
// The error wraps [os.ErrNotExist] if nothing was ever written there.
func Committed(dir string) (c Contents, err error) {
	cp, err := readCheckpoint(dir)
	if err != nil {
		return c, err
	}
	n := len(cp.History)
	c = Contents{Name: cp.Name, Cursor: cp.Cursor, Rewound: n == 0 || cp.History[n-1].Segment == ""}
	if c.Count = cp.Segment - 1; cp.Offset > 0 {
		c.Count++
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return c, fmt.Errorf("filesink: %s: %w", dir, err)
	}
	for _, f := range files {
		final := strings.TrimSuffix(f.Name(), openSuffix)
		name, number, ok := parseSegment(final)
		s := Stored{filepath.Join(dir, final), number, -1}
		switch {
		case !ok || name != cp.Name || number > cp.Segment:
			continue
		case number == cp.Segment:
			if cp.Offset == 0 || final != cp.File {
				continue
			}
			s.bytes = cp.Offset
		}
		for _, sealed := range cp.Sealed {
			if sealed.File == final {
				s.bytes = sealed.Bytes
			}
		}
		c.Segments = append(c.Segments, s)
	}
	slices.SortFunc(c.Segments, func(a, b Stored) int { return strings.Compare(a.Path, b.Path) })
	c.Segments = slices.CompactFunc(c.Segments, func(a, b Stored) bool { return a.Path == b.Path }) // renamed while they were listed
	return c, nil
}

// Open opens a segment for reading its committed bytes. The error wraps
// [os.ErrNotExist] if a consumer has taken the segment.
func (s Stored) Open() (io.ReadCloser, error) {
	var f *os.File
	var err error
	for _, path := range []string{s.Path, s.Path + openSuffix, s.Path} { // again, because it may have been sealed just now
		if f, err = os.Open(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("filesink: %w", err)
	}
	if s.bytes < 0 {
		return f, nil
	}
	return committedFile{io.LimitReader(f, s.bytes), f}, nil
}

type committedFile struct {
	io.Reader
	io.Closer
}
