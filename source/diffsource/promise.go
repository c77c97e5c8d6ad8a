package diffsource

import "github.com/artifactofdevotion/devotion/source"

// Promise returns what every [Source] promises.
func Promise() source.Guarantee { return *guarantee }
