//go:build !race

package prometheus_test

const race = false
