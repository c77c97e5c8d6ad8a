package filesink

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Options say how a [Dir] writes. The zero value is ready to use.
//
// A segment is sealed after the batch that brings it to a limit, so it may exceed
// the limit by up to one batch.
type Options[T any] struct {
	// Name is the first part of each segment's name: up to 100 letters, digits,
	// dots, dashes and underscores. Defaults to the name that the directory has,
	// and to "rows" for a new directory. A directory keeps its name.
	Name string

	// Encoder is the format. Defaults to JSONLines[T](). A change of the format
	// starts a new segment.
	Encoder Encoder[T]

	// SegmentBytes is the size in bytes at which a segment is sealed. Defaults to
	// 64 MiB; negative means no limit.
	SegmentBytes int64

	// SegmentRows is the number of records at which a segment is sealed. 0
	// means no limit.
	SegmentRows int64

	// SegmentAge is the time from its first record after which a segment is
	// sealed, even if no more records come, while the Dir is open. Defaults to 5
	// minutes; negative means no limit.
	SegmentAge time.Duration

	// OnSeal is called for each sealed segment when its final name is durable, for
	// example to upload it. It may take any time: it runs in a separate goroutine
	// while the Dir goes on. The calls come one at a time, in the order of the
	// segments. If it returns an error, which is logged, it is called again for that
	// segment, with the waits of the zero [retry.Policy], until it returns nil.
	//
	// A segment for which it has not returned nil is announced again by the next
	// Open. So may be the last ones for which it has, after a crash, and the file
	// may have been removed by then. Ctx ends when the Dir is closed. Close waits
	// until OnSeal has returned. [Dir.Seal] waits until all segments are announced,
	// and [Dir.Pending] says which are not. Once 10,000 are not, Write is an error.
	OnSeal func(context.Context, Segment) error

	// MustExist makes Open refuse a directory without a checkpoint, and create
	// nothing. Set it where the directory is on a file system that may not be
	// mounted: its mount point looks like a new directory, and everything would be
	// written again. The error wraps fs.ErrNotExist. The first start leaves it out.
	MustExist bool

	// FileMode and DirMode are the permissions of new files and directories,
	// before the umask. They default to 0600 and 0700.
	FileMode, DirMode fs.FileMode

	// Logger logs when a segment cannot be sealed at SegmentAge, which is retried
	// every 10 seconds, and when OnSeal fails; and when either has succeeded after
	// all. Defaults to slog.Default().
	Logger *slog.Logger
}

// Segment is a sealed segment.
type Segment struct {
	Path  string // absolute
	Rows  int64
	Bytes int64

	// The records are after From and at or before To. If the columns change within
	// a batch, the segments before and after the change both span that batch.
	From, To source.Cursor
}

// Entry is a cursor that was stored.
type Entry struct {
	Cursor source.Cursor `json:"cursor"`
	Time   time.Time     `json:"time"` // when it was stored, in UTC

	Segment string `json:"segment,omitempty"` // final name of the segment that was open; empty if none was
	Offset  int64  `json:"offset"`            // bytes that Segment had up to Cursor
	Rows    int64  `json:"rows"`              // records that Segment had up to Cursor
}

var (
	validName      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)
	validExtension = regexp.MustCompile(`^(\.[A-Za-z0-9_]{1,16}){1,3}$`)
)

func (o *Options[T]) complete() error {
	if o.Encoder == nil {
		o.Encoder = JSONLines[T]()
	}
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 64<<20)
	o.SegmentAge = max(cmp.Or(o.SegmentAge, 5*time.Minute), 0)
	o.FileMode, o.DirMode = cmp.Or(o.FileMode, 0o600), cmp.Or(o.DirMode, 0o700)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	ext := o.Encoder.Extension()
	switch {
	case o.Name != "" && !validName.MatchString(o.Name):
		return fmt.Errorf("Name %q is not a valid file name: use up to 100 letters, digits, dots, dashes and underscores, and do not begin with a dot or a dash", o.Name)
	case !validExtension.MatchString(ext) || strings.HasSuffix(ext, openSuffix):
		return fmt.Errorf("the Encoder's Extension %q is not valid: use a dot and up to 16 letters or digits, such as .jsonl, and do not end in %s", ext, openSuffix)
	case o.SegmentRows < 0:
		return fmt.Errorf("SegmentRows is negative: leave it out for no limit")
	case o.FileMode.Perm() != o.FileMode || o.FileMode&0o600 != 0o600:
		return fmt.Errorf("FileMode %v would lock this process out of its files: use permissions that include 0600", o.FileMode)
	case o.DirMode.Perm() != o.DirMode || o.DirMode&0o700 != 0o700:
		return fmt.Errorf("DirMode %v would lock this process out of the directory: use permissions that include 0700", o.DirMode)
	}
	return nil
}
