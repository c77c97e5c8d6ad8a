package filesink

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// History returns where the pipeline that writes to a directory was, as
// [Dir.History] does, without opening the directory: it takes no lock, changes
// nothing, and may be called while the pipeline runs, in this process or
// another. What it returns may be a moment old, and in the moment of a power cut
// not durable yet. On Windows the pipeline's commit may fail while the file is
// being read, and is then done again.
//
// The error wraps [os.ErrNotExist] if nothing was ever written there.
func History(dir string) ([]Entry, error) {
	text, err := os.ReadFile(filepath.Join(dir, checkpointName)) // it is only ever replaced whole
	if err != nil {
		return nil, fmt.Errorf("filesink: %s: read the checkpoint: %w", dir, err)
	}
	cp, err := decodeCheckpoint(text)
	if err != nil {
		return nil, fmt.Errorf("filesink: %s: the checkpoint cannot be used: %w", dir, err)
	}
	return cp.entries(), nil
}

// entries returns the history, newest first.
func (c checkpoint) entries() []Entry {
	entries := make([]Entry, 0, len(c.History))
	for _, e := range slices.Backward(c.History) {
		entries = append(entries, Entry{e.Cursor, e.Time, e.Segment, e.Offset, e.Rows})
	}
	return entries
}
