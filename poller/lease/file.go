package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/durable"
)

// File is a lease that is a lock on a file, for replicas on one machine. The
// operating system releases the lock when the process ends, however it ends, and
// another replica takes over within a second. A process that is paused keeps the
// lock, so no other replica takes over. On network file systems the lock may not
// work: use [Heartbeat] there.
type File struct {
	// Path is the file. It is created if it does not exist; its directory must
	// exist. Do not remove the file while a replica runs: the active one notices it
	// only after a moment, and gives up then. It is required.
	Path string
}

// often is how often a replica looks at the file.
const often = time.Second / 2

// Hold implements [poller.Lease].
func (l *File) Hold(ctx context.Context, active func(ctx context.Context) error) error {
	f, err := os.OpenFile(l.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	locked, err := durable.TryLock(f)
	switch {
	case err != nil:
		return fmt.Errorf("lease: lock %s: %w", l.Path, errors.Join(err, f.Close()))
	case !locked || !l.is(f): // the file may have been removed since it was opened
		_ = durable.Unlock(f)
		sleep(ctx, often)
		return fmt.Errorf("lease: %w: it has locked %s", poller.ErrStandby, l.Path)
	}
	defer func() { _ = durable.Unlock(f) }() // the lock ends with the process at the latest
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() {
		for watching.Err() == nil {
			if !l.is(f) {
				lose(fmt.Errorf("%w: %s was removed or replaced", poller.ErrLeaseLost, l.Path))
				return
			}
			sleep(watching, often)
		}
	})
	defer func() { stop(); watch.Wait() }()
	return active(held)
}

// is reports whether f is still the file at Path.
func (l *File) is(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.Path)
	return err == nil && os.SameFile(mine, there)
}
