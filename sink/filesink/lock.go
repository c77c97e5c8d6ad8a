package filesink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

// ErrInUse is wrapped by the error of [Open] if another process, or another Dir
// of this process, has the directory open. The error names the process.
var ErrInUse = errors.New("the directory is in use")

// holder is the content of the lock file: the process that holds the lock. It is
// for people to read. The lock itself is the operating system's and ends with the
// process.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

func lockDirectory(root durable.Root) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, root.Perm)
	if err != nil {
		return nil, err
	}
	switch free, err := durable.TryLock(f); {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	case !free:
		return nil, errors.Join(inUse(f), f.Close())
	}
	h := holder{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}
	h.Host, _ = os.Hostname()
	text, _ := json.Marshal(h) // a struct of plain fields
	// On a full disk the file stays empty. Go on anyway: recovery may free
	// some space.
	_ = f.Truncate(0)
	_, _ = f.WriteAt(append(text, '\n'), 0)
	return f, nil
}

func inUse(f *os.File) error {
	var h holder
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err != nil { // not written yet, or the disk was full
		return fmt.Errorf("%w by another process", ErrInUse)
	}
	return fmt.Errorf("%w by process %d on host %q since %s: stop it first", ErrInUse, h.PID, h.Host, h.Since.Format(time.RFC3339))
}
