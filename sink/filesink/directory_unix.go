//go:build unix

package filesink

import "os"

func syncOpenDirectory(d *os.File) error { return d.Sync() }

func isFull(error) bool { return false } // ENOSPC and EDQUOT say it all
