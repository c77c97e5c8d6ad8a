//go:build race

package systemdlab

const race = true
