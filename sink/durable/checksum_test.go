package durable

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChecksum(t *testing.T) {
	t.Parallel()
	text := AddChecksum([]byte(`{"a":1}`))
	assert.Equal(t, `{"crc32c":"cff7d56a","checkpoint":{"a":1}}`+"\n", string(text))
	assert.True(t, HasChecksum(text))
	assert.False(t, HasChecksum([]byte(`{"a":1}`)))
	body, err := VerifyChecksum(text)
	require.NoError(t, err)
	assert.Equal(t, `{"a":1}`, string(body))
	for i := range text {
		_, err := VerifyChecksum(text[:i])
		require.Error(t, err)
		damaged := append([]byte{}, text...)
		damaged[i] ^= 1 << rand.IntN(8)
		_, err = VerifyChecksum(damaged)
		require.ErrorContains(t, err, "it does not match its checksum")
	}
	_, err = VerifyChecksum(append(text, '\n'))
	require.Error(t, err)
}
