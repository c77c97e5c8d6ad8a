package pglog

import "github.com/artifactofdevotion/devotion/source"

// Promise returns what every [Source] promises that begins with a copy.
func Promise() source.Guarantee { return guarantee }
