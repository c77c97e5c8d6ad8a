package filesink

import (
	"crypto/rand"
	"time"
)

// OpenWithClock is Open with another clock than the system's.
func OpenWithClock[T any](dir string, o Options[T], now func() time.Time) (*File[T], error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	d, err := openDirectory(dir, o.DirMode, o.FileMode)
	if err != nil {
		return nil, err
	}
	return openFile(d, dir, o, now, rand.Text)
}

// DecodeVersion reads a checkpoint of that version.
func DecodeVersion(v int) error {
	text, err := checkpoint{Version: v}.encode()
	if err != nil {
		return err
	}
	_, err = decodeCheckpoint(text)
	return err
}
