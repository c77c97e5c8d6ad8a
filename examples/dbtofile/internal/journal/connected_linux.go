package journal

import (
	"fmt"
	"os"
	"syscall"
)

// Connected reports whether standard error goes to the systemd journal, as
// systemd.exec(5) says: the variable alone may have been inherited.
func Connected() bool {
	info, err := os.Stderr.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}
