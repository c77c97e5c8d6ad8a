package dbtest

import (
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var starts = map[string]func(testing.TB, ...Option) *Server{"Postgres": StartPostgres, "MariaDB": StartMariaDB}

// Another process may take the port after it was chosen and before the server starts.
func TestStartChoosesAnotherPort(t *testing.T) {
	t.Parallel()
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer other.Close()
			chosen := 0
			server := start(t, func(s *Server) {
				s.newPort = func() (int, io.Closer) {
					if chosen++; chosen == 1 {
						return other.Addr().(*net.TCPAddr).Port, io.NopCloser(nil)
					}
					return claimPort()
				}
			})
			assert.Equal(t, 2, chosen)
			assert.NotEqual(t, other.Addr().String(), server.Addr())
			server.NewDatabase(t)
		})
	}
}

// The server of another test must not get the port of a stopped server, which then could
// not start again.
func TestPortOfStoppedServerStaysReserved(t *testing.T) {
	t.Parallel()
	server := StartPostgres(t)
	require.NoError(t, server.Stop())
	_, err := claim(server.port)
	require.Error(t, err)
}

// Another process may take the port of a stopped server. Start waits until the port is
// free.
func TestStartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			require.NoError(t, server.Stop())
			other, err := net.Listen("tcp", server.Addr())
			require.NoError(t, err)
			var freed atomic.Bool
			go func() { // Start connects here to see whether the server answers
				c, err := other.Accept()
				if err == nil {
					c.Close()
				}
				freed.Store(true)
				other.Close()
			}()
			require.NoError(t, server.Start())
			assert.True(t, freed.Load(), "the port was never taken")
		})
	}
}
