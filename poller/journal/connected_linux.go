package journal

import (
	"fmt"
	"os"
	"syscall"
)

// Connected reports whether standard error goes to the systemd journal. It compares
// JOURNAL_STREAM with the file, see systemd.exec(5), because the variable may be
// inherited.
func Connected() bool {
	info, err := os.Stderr.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}
