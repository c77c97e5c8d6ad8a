//go:build race

package lab

// Race says that the race detector is on. It does not see into the programs that a
// test starts.
const Race = true
