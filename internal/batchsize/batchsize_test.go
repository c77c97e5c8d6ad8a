package batchsize_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/internal/batchsize"
)

func TestLimit(t *testing.T) {
	l := batchsize.Limit{Next: 1, Max: 10}
	grown := func(n int) int {
		for range n {
			l.Grow()
		}
		return l.Next
	}
	assert.Equal(t, 2, grown(1))
	assert.Equal(t, 8, grown(2))
	assert.Equal(t, 10, grown(5))
	l.Next = 3
	l.TooLarge(3)
	assert.Equal(t, 3, grown(99), "the sink accepts no more")
	assert.Equal(t, 3, grown(1), "the next batch but one is larger")
	assert.Equal(t, 6, grown(1))
	assert.Equal(t, 6, grown(98))
	assert.Equal(t, 10, grown(101))

	l = batchsize.Limit{Next: math.MaxInt/2 + 1, Max: math.MaxInt}
	assert.Equal(t, math.MaxInt, grown(3), "without overflow")
}
