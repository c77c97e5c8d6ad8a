//go:build race

package deploytest

const race = true
