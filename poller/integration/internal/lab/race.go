//go:build race

package lab

// Race is true if the race detector is on. It does not cover programs that a test starts.
const Race = true
