package deadletter

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
)

// position is a place between two lines.
type position struct {
	segment uint64
	offset  int64
}

func (p position) after(q position) bool {
	return p.segment > q.segment || p.segment == q.segment && p.offset > q.offset
}

// labelOf returns what the cursors of a replay have in common: when the directory was
// created, and a digest of the IDs that are selected.
func labelOf(c filesink.Contents, only []string) string {
	label := fmt.Sprintf("%x", c.Created.UnixNano())
	if only != nil {
		sum := sha256.Sum256(fmt.Appendf(nil, "%q", slices.Sorted(slices.Values(only))))
		label += fmt.Sprintf("-%x", sum[:8])
	}
	return label
}

// A cursor has a label, the number of a file, and an offset in it. Cursors had no label
// before Only was a list: they are of all letters.
const (
	cursorFormat  = "letters:%s:%d:%d"
	withoutFormat = "letters:%d:%d"
)

func (p position) cursor(label string) source.Cursor {
	return source.Cursor(fmt.Sprintf(cursorFormat, label, p.segment, p.offset))
}

// parseCursor returns the position of a cursor with a label.
func parseCursor(c source.Cursor, label string) (p position, err error) {
	if c == "" {
		return p, nil
	}
	rest, isLetters := strings.CutPrefix(string(c), "letters:")
	of, place, labelled := strings.Cut(rest, ":")
	if labelled = labelled && strings.Contains(place, ":"); labelled {
		rest = place
	}
	_, err = fmt.Sscanf("letters:"+rest, withoutFormat, &p.segment, &p.offset)
	if !isLetters || err != nil || p.offset < 0 || fmt.Sprintf(withoutFormat, p.segment, p.offset) != "letters:"+rest {
		return p, fmt.Errorf("deadletter: %q is not a cursor of letters: use the checkpoint of the replay, which is not the one of the pipeline that wrote the letters", c.Short())
	}
	directory, selection, _ := strings.Cut(label, "-")
	ofDirectory, ofSelection, _ := strings.Cut(of, "-")
	switch {
	case labelled && ofDirectory != directory:
		return p, retry.Permanent(fmt.Errorf("deadletter: the cursor %q is of other letters: the directory was cleared or replaced since; begin the replay again with a new checkpoint", c))
	case labelled && ofSelection != selection, !labelled && selection != "":
		return p, retry.Permanent(fmt.Errorf("deadletter: the cursor %q is of another selection of letters: give each Source.Only a checkpoint of its own", c))
	}
	return p, nil
}
