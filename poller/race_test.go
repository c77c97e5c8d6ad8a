//go:build race

package poller_test

func init() { raceDetector = true }
