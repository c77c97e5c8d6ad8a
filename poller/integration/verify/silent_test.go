package verify

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/verify"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// muting forwards connections to a server. Once it has seen a text in as many requests as it lets
// through, it forwards nothing more, and keeps the connections open.
type muting struct {
	net.Listener
	server, text string
	lets         int64
	seen         atomic.Int64
}

func (m *muting) serve() {
	for {
		client, err := m.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", m.server)
		if err != nil {
			client.Close()
			continue
		}
		go func() { // ends with the client's connection
			defer server.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := client.Read(buf)
				if err != nil {
					return
				}
				if bytes.Contains(buf[:n], []byte(m.text)) {
					m.seen.Add(1)
				}
				if m.seen.Load() <= m.lets {
					_, _ = server.Write(buf[:n])
				}
			}
		}()
		go func() {
			defer client.Close()
			_, _ = io.Copy(client, server)
		}()
	}
}

// A server that goes silent ends the comparison after the timeout, whatever it reads then.
func TestASilentServer(t *testing.T) {
	t.Parallel()
	postgres := dbtest.Postgres(t)
	d := postgres.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	orders(t, dbtest.PGX, db, 100)
	c := newCopy(t, &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}})
	c.drain()
	files, err := filesink.Open(c.dir, c.o)
	require.NoError(t, err)
	at, err := c.settings().At(50)
	require.NoError(t, err)
	require.NoError(t, files.Rewind(at)) // so that Keys is called too
	require.NoError(t, files.Close())
	c.drain()

	// through compares through a server that goes silent, and returns how many requests named the table.
	through := func(lets int64, timeout time.Duration) (int64, error) {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer server.Close()
		m := &muting{Listener: server, server: postgres.Addr(), text: "orders", lets: lets}
		go m.serve()
		muted, err := sqlx.Open(dbtest.PGX.SQLName(), d.WithAddr(server.Addr().String()).DSN(dbtest.PGX))
		require.NoError(t, err)
		defer muted.Close()
		table := c.settings()
		table.DB = muted
		ctx, cancel := context.WithTimeout(t.Context(), lab.WaitLimit)
		defer cancel()
		_, err = verify.Files(ctx, table, c.dir, timeout)
		return m.seen.Load(), err
	}
	all, err := through(1<<30, 0)
	require.NoError(t, err)
	require.Greater(t, all, int64(5))
	for lets := range all {
		seen, err := through(lets, 100*time.Millisecond)
		if err == nil { // it needed fewer requests than the first comparison: that depends on how many connections it used
			require.Positive(t, lets)
			require.LessOrEqual(t, seen, lets, "requests, of which the last was not answered")
			continue
		}
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "no answer within 100ms")
	}
}
