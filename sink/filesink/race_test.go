//go:build race

package filesink

func init() { fewerSeeds = 10 } // the race detector makes it slower by as much
