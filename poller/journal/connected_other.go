//go:build !linux

package journal

// Connected reports whether standard error goes to the systemd journal, which only
// Linux has.
func Connected() bool { return false }
