package filesink

import (
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

// Options say how a [Dir] writes. The zero value of each is a good default.
//
// A segment is sealed after the batch that brings it to one of the limits, so
// it may be larger by up to one batch.
type Options[T any] struct {
	// Name begins the name of each segment. It is of letters, digits, dots,
	// dashes and underscores. Defaults to the name that the directory has, and
	// to "rows" for a new one. A directory keeps its name.
	Name string

	// Encoder is the format. Defaults to JSONLines[T](). Another than before
	// starts a new segment.
	Encoder Encoder[T]

	// SegmentBytes is the size at which a segment is sealed. Defaults to
	// 64 MiB; negative means no limit.
	SegmentBytes int64

	// SegmentRows is the number of records at which a segment is sealed. 0
	// means no limit.
	SegmentRows int64

	// SegmentAge is how long after its first record a segment is sealed, also
	// when no more records come, as long as the Dir is open. 0 means no limit.
	SegmentAge time.Duration

	// OnSeal is told of each sealed segment once it has its final name,
	// durably, in the order of the segments. No segment is left out, but one may
	// come again after an error or a crash, then in Open, and may have been
	// taken away by then. It must not call the Dir, which waits for it.
	OnSeal func(Segment)

	// Gaps makes Write take a batch whatever its From, and take a batch whose
	// To is the stored cursor for a repeat of the last one. It is meant for a
	// dead-letter sink, whose records come from here and there. Nothing else
	// then tells that a second writer moved the cursor.
	Gaps bool

	// FileMode and DirMode are the permissions of the files and directories
	// made, before the umask. Default to 0600 and 0700.
	FileMode, DirMode fs.FileMode

	// Logger gets a line when a segment is due by SegmentAge and cannot be
	// sealed, which is tried again, and when that is over. Its keys are op, dir
	// and err. Defaults to slog.Default().
	Logger *slog.Logger
}

// Segment is a sealed segment.
type Segment struct {
	Path  string // absolute
	Rows  int64
	Bytes int64

	// The records lie after From and at or before To. Where the columns change
	// amid a batch, the segments before and after both span that batch.
	From, To source.Cursor
}

// Entry is a position that the pipeline was at.
type Entry struct {
	Cursor source.Cursor
	Time   time.Time

	// Segment is the final name of the segment that was open, Offset and Rows
	// what it held up to Cursor. It is empty if none was open.
	Segment string
	Offset  int64
	Rows    int64
}

var (
	validName      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)
	validExtension = regexp.MustCompile(`^(\.[A-Za-z0-9_]{1,16}){1,3}$`)
)

func (o *Options[T]) complete() error {
	if o.Encoder == nil {
		o.Encoder = JSONLines[T]()
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.FileMode == 0 {
		o.FileMode = 0o600
	}
	if o.DirMode == 0 {
		o.DirMode = 0o700
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ext := o.Encoder.Extension()
	switch {
	case o.Name != "" && !validName.MatchString(o.Name):
		return fmt.Errorf("Name %q is no name for files: use up to 100 letters, digits, dots, dashes and underscores, not beginning with a dot or a dash", o.Name)
	case !validExtension.MatchString(ext) || strings.HasSuffix(ext, openSuffix):
		return fmt.Errorf("the Encoder's Extension %q is none: it is a dot and up to 16 letters or digits, such as .jsonl, and does not end in %s", ext, openSuffix)
	case o.SegmentRows < 0:
		return fmt.Errorf("SegmentRows is negative: leave it out for no limit")
	case o.SegmentAge < 0:
		return fmt.Errorf("SegmentAge is negative: leave it out for no limit")
	case o.FileMode.Perm() != o.FileMode || o.FileMode&0o600 != 0o600:
		return fmt.Errorf("FileMode %v keeps this process from its files: it must be permissions that include 0600", o.FileMode)
	case o.DirMode.Perm() != o.DirMode || o.DirMode&0o700 != 0o700:
		return fmt.Errorf("DirMode %v keeps this process from the directory: it must be permissions that include 0700", o.DirMode)
	}
	return nil
}
