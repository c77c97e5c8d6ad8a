package parts_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/internal/parts"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink"
)

var errDown = errors.New("503")

func reject() error { return sink.Reject(errors.New("422")) }

// Whatever a sink answers, each record is done once, in the order of the batch within a
// write, and none is lost.
func TestEachRecordIsDoneOnce(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		n := random.IntN(20)
		batch := make([]int, n)
		for i := range batch {
			batch[i] = 100 + i
		}
		p := parts.New(n)
		done := make(map[int]int)
		stored, rejected := 0, 0
		for len(p.Rest) > 0 {
			if p.Size > 1 && random.IntN(4) == 0 {
				p.Size /= 2
			}
			written := parts.Next(p, batch)
			require.Len(t, written, p.Size)
			var answer error
			if random.IntN(3) > 0 {
				s := &sink.StoredError{N: random.IntN(p.Size + 1), Others: map[int]error{}}
				s.Err = []error{nil, errDown, reject(), sink.TooLarge(errDown)}[random.IntN(4)]
				for i := s.N + 1; i < p.Size; i++ {
					if random.IntN(2) == 0 {
						s.Others[i] = []error{nil, reject(), errDown}[random.IntN(3)]
					}
				}
				answer = s
				if p.Check(answer) == nil {
					require.Equal(t, p.Size, s.N)
					answer = nil
				}
			}
			require.Equal(t, answer, p.Check(answer))
			progress, before, full := p.Progress(answer), len(p.Rest), random.IntN(10) == 0
			err := p.Settle(answer, func(i int, rejection error) error {
				if rejection != nil && full {
					return errDown
				}
				require.Contains(t, written, batch[i])
				done[batch[i]]++
				if rejection == nil {
					stored++
				} else {
					rejected++
				}
				return nil
			})
			if err == nil {
				require.Equal(t, progress, len(p.Rest) < before)
			}
			require.Equal(t, rejected, p.Rejected)
			require.True(t, slices.IsSorted(p.Rest))
			for _, i := range p.Rest {
				require.Zero(t, done[batch[i]])
			}
			require.Equal(t, n, len(done)+len(p.Rest))
		}
		require.Equal(t, n, stored+rejected)
		for _, record := range batch {
			require.Equal(t, 1, done[record])
		}
	}
}

func TestAnAnswerThatCannotBeTrue(t *testing.T) {
	for _, n := range []int{-1, 4} {
		p := parts.New(3)
		err := p.Check(sink.Stored(n, errDown))
		assert.Equal(t, retry.Fatal, retry.Classify(err))
		assert.False(t, p.Progress(err))
	}
}

// Records that the batch does not have, and others than stored and rejected ones, do
// not count.
func TestOutcomesThatDoNotCount(t *testing.T) {
	p := parts.New(3)
	answer := &sink.StoredError{Err: errDown, Others: map[int]error{-1: nil, 0: nil, 1: errDown, 3: nil}}
	assert.False(t, p.Progress(answer))
	require.NoError(t, p.Settle(answer, func(int, error) error { panic("none is done") }))
	assert.Equal(t, []int{0, 1, 2}, p.Rest)
}

func TestAllOfABatchIsStored(t *testing.T) {
	for _, n := range []int{0, 3} {
		p := parts.New(n)
		require.NoError(t, p.Check(sink.Stored(n, nil)))
		require.Error(t, p.Check(sink.Stored(n, errDown)))
	}
}

// A record that is stored or rejected is progress, and then End is not 0.
func TestProgress(t *testing.T) {
	for answer, want := range map[error]bool{
		nil:                                    true,
		errDown:                                false,
		sink.Stored(0, errDown):                false,
		sink.Stored(0, sink.TooLarge(errDown)): false,
		sink.Stored(1, errDown):                true,
		sink.Stored(0, reject()):               true,
		&sink.StoredError{Err: errDown, Others: map[int]error{2: nil}}: true,
	} {
		p := parts.New(3)
		require.Equal(t, answer, p.Check(answer))
		assert.Equal(t, want, p.Progress(answer), answer)
		require.NoError(t, p.Settle(answer, func(int, error) error { return nil }))
		assert.Equal(t, want, p.End > 0, answer)
	}
}

// Of several records the first is not known to be the one that is too large.
func TestTooLargeIsARejectionOfASingleRecord(t *testing.T) {
	p := parts.New(3)
	answer := sink.Stored(1, sink.TooLarge(errDown))
	assert.True(t, p.Progress(answer))
	require.NoError(t, p.Settle(answer, func(_ int, rejection error) error { return rejection }))
	assert.Equal(t, []int{1, 2}, p.Rest)
	answer = sink.Stored(0, sink.TooLarge(errDown))
	assert.False(t, p.Progress(answer))
	p.Size = 1
	assert.True(t, p.Progress(answer))
	assert.False(t, p.Stored(answer))
}

// What is stored of a part is known of an error that wraps one, not of one that wraps
// several.
func TestAnErrorThatWrapsSeveral(t *testing.T) {
	stored := sink.Stored(2, errDown)
	p := parts.New(3)
	assert.True(t, p.Progress(fmt.Errorf("orders: %w", retry.Permanent(stored))))
	assert.False(t, p.Progress(errors.Join(stored)))
	assert.False(t, p.Progress(fmt.Errorf("%w, %w", stored, errDown)))
	assert.Equal(t, 2, parts.Stopped(sink.Stored(2, nil)))
	assert.Zero(t, parts.Stopped(stored))
	assert.Zero(t, parts.Stopped(nil))
}

func TestShare(t *testing.T) {
	assert.Equal(t, 0, parts.Share(0, 0, 0))
	assert.Equal(t, 0, parts.Share(100, 0, 10))
	assert.Equal(t, 33, parts.Share(100, 1, 3))
	assert.Equal(t, 101, parts.Share(101, 3, 3))
}
