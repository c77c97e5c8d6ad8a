package filesink

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// History returns the stored cursors like [Dir.History], without opening the
// directory. It takes no lock, changes nothing, and may be called while a pipeline
// writes to the directory, in this process or another. The newest entry may not be
// durable yet. On Windows, a commit of the pipeline may fail while the file is
// read; the pipeline retries it.
//
// The error wraps [os.ErrNotExist] if nothing was ever written there.
func History(dir string) ([]Entry, error) {
	text, err := os.ReadFile(filepath.Join(dir, checkpointName)) // it is always replaced whole
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
