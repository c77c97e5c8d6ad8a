//go:build race

package page

const race = true
