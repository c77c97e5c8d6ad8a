//go:build race

package ceiling

func init() { raceDetector = true }
