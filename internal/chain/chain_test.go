package chain_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/internal/chain"
)

func TestAs(t *testing.T) {
	path := &fs.PathError{Op: "open", Path: "a", Err: fs.ErrNotExist}
	for err, want := range map[error]bool{
		path:                      true,
		fmt.Errorf("b: %w", path): true,
		fmt.Errorf("c: %w: %w", path, fs.ErrInvalid): false,
		errors.Join(path): false,
		fs.ErrNotExist:    false,
		nil:               false,
	} {
		found, ok := chain.As[*fs.PathError](err)
		assert.Equal(t, want, ok, err)
		assert.Equal(t, want, found == path, err)
	}
}
