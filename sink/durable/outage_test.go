package durable

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOutage(t *testing.T) {
	t.Parallel()
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		assert.True(t, IsFull(&fs.PathError{Op: "write", Err: err}))
		assert.True(t, IsOutage(&fs.PathError{Op: "write", Err: err}))
	}
	for _, err := range []error{syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ESTALE} {
		assert.False(t, IsFull(err))
		assert.True(t, IsOutage(errors.Join(errors.New("x"), err)))
	}
	for _, err := range []error{nil, errors.New("x"), fs.ErrNotExist, syscall.EACCES, syscall.EROFS, syscall.ENOTDIR, syscall.EEXIST} {
		assert.False(t, IsFull(err))
		assert.False(t, IsOutage(err))
	}
}
