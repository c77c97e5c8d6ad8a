package outages

import (
	"database/sql"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// proxy is a TCP proxy in front of a server that injects faults.
type proxy struct {
	t testing.TB
	*toxiproxy.Proxy
}

func newProxy(t testing.TB, upstream string) proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := proxy{t, toxiproxy.NewProxy(server, strings.ReplaceAll(t.Name(), "/", "_"), "127.0.0.1:0", upstream)}
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	return p
}

// restart starts the proxy after Stop. Another process may have its port: then it waits.
func (p proxy) restart() {
	require.Eventually(p.t, func() bool { return p.Start() == nil }, waitLimit, 10*time.Millisecond, "the port of the proxy is still taken")
}

// add adds a toxic for one direction: "upstream" to the server, or "downstream" from it.
func (p proxy) add(kind, way string, attributes map[string]any) {
	text, err := json.Marshal(map[string]any{"name": kind + way, "type": kind, "stream": way, "attributes": attributes})
	require.NoError(p.t, err)
	_, err = p.Toxics.AddToxicJson(strings.NewReader(string(text)))
	require.NoError(p.t, err)
}

func (p proxy) remove(kind, way string) {
	require.NoError(p.t, p.Toxics.RemoveToxic(p.t.Context(), kind+way))
}

// blackHole drops all data in both directions without closing a connection.
func (p proxy) blackHole() {
	p.add("timeout", "upstream", map[string]any{"timeout": 0})
	p.add("timeout", "downstream", map[string]any{"timeout": 0})
}

// endBlackHole ends blackHole, and closes the connections it affected.
func (p proxy) endBlackHole() {
	p.remove("timeout", "upstream")
	p.remove("timeout", "downstream")
}

// openLimited opens a database with a driver that returns soon after its context ends. Most
// drivers do. lib/pq waits for ever unless its connection has a limit.
func openLimited(t testing.TB, d dbtest.Database, driver dbtest.Driver, limit time.Duration) *sqlx.DB {
	t.Helper()
	if driver != dbtest.PQ {
		return d.Open(t, driver)
	}
	connector, err := pq.NewConnector(d.DSN(driver))
	require.NoError(t, err)
	connector.Dialer(limitedDialer{limit})
	db := sqlx.NewDb(sql.OpenDB(connector), driver.SQLName())
	t.Cleanup(func() { db.Close() })
	return db
}

type limitedDialer struct{ limit time.Duration }

func (d limitedDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialTimeout(network, address, d.limit)
}

func (d limitedDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, timeout)
	return limitedConn{c, d.limit}, err
}

// limitedConn fails a read that gets no data for the given time. The driver only reads when
// it waits for an answer.
type limitedConn struct {
	net.Conn
	limit time.Duration
}

func (c limitedConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}
