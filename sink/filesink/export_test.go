package filesink

import (
	"slices"
	"time"
)

// OpenWithClock is Open with a clock of the test.
func OpenWithClock[T any](dir string, o Options[T], now func() time.Time) (*Dir[T], error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	d, err := openDirectory(dir, o.DirMode, o.FileMode)
	if err != nil {
		return nil, err
	}
	return openDir(d, dir, o, now)
}

// DecodeBody decodes a checkpoint with a correct checksum.
func DecodeBody(body string) error {
	_, err := decodeCheckpoint(slices.Concat(envelope([]byte(body)), []byte(body), []byte(afterBody)))
	return err
}
