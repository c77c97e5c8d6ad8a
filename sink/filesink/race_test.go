//go:build race

package filesink

func init() { raceDetector = true }
