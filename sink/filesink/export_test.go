package filesink

import (
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// OpenWithClock is Open with a clock of the test.
func OpenWithClock[T any](dir string, o Options[T], now func() time.Time) (*Dir[T], error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	open := func() (directory, error) { return openDirectory(dir, false, 0o700, 0o600) }
	return openDir(dir, o, system{open, now, (*sync.WaitGroup).Go})
}

// DecodeBody decodes a checkpoint with a correct checksum.
func DecodeBody(body string) error {
	_, err := decodeCheckpoint(durable.AddChecksum([]byte(body)))
	return err
}

// DecodeText decodes the text of a checkpoint.
func DecodeText(text []byte) error {
	_, err := decodeCheckpoint(text)
	return err
}

// SetMaxPending sets how many segments may wait for OnSeal.
func (d *Dir[T]) SetMaxPending(n int) { d.store.announcer.limit = n }
