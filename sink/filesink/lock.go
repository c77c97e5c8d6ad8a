package filesink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// ErrInUse is wrapped by the error of [Open] when another process, or another
// Dir of this one, has the directory open. The error says which.
var ErrInUse = errors.New("the directory is in use")

// holder is what the lock file says about who holds the lock. It is there for
// people to read: the lock itself is the operating system's, and ends with the
// process.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

func lockDirectory(root *os.Root, mode fs.FileMode) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return nil, err
	}
	switch free, err := tryLock(f); {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	case !free:
		return nil, errors.Join(inUse(f), f.Close())
	}
	h := holder{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}
	h.Host, _ = os.Hostname()
	text, _ := json.Marshal(h) // a struct of plain fields
	// On a full disk it says nothing: recovery may be what makes room.
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
	if err != nil { // it has not written it yet, or could not
		return fmt.Errorf("%w by another process", ErrInUse)
	}
	return fmt.Errorf("%w by process %d on host %q since %s: stop it first", ErrInUse, h.PID, h.Host, h.Since.Format(time.RFC3339))
}
