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
	return openDir(dir, o, now, func() (directory, error) { return openDirectory(dir, false, 0o700, 0o600) })
}

// DecodeBody decodes a checkpoint with a correct checksum.
func DecodeBody(body string) error {
	_, err := decodeCheckpoint(slices.Concat(envelope([]byte(body)), []byte(body), []byte(afterBody)))
	return err
}
