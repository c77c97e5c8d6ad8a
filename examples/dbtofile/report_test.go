package main

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
)

// Not every database can be made to hold rows back from outside.
func TestExitCodeOfHeldRows(t *testing.T) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	stderr := os.Stderr
	os.Stderr = write
	code := report(fmt.Errorf("poller: orders: fetch: %w, by pid 4711 (psql)", poller.ErrHeld), "text")
	os.Stderr = stderr
	require.NoError(t, write.Close())
	said, err := io.ReadAll(read)
	require.NoError(t, err)
	require.Equal(t, 3, code)
	require.Equal(t, "dbtofile: poller: orders: fetch: records are still held back, by pid 4711 (psql)\n", string(said))
}
