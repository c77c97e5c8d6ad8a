package row_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/row"
)

// stillRows is a driver that returns the same row n times without allocating
// memory.
type stillRows struct {
	n      int
	values []driver.Value
}

func (d stillRows) Connect(context.Context) (driver.Conn, error) { return stillConn{d}, nil }
func (d stillRows) Driver() driver.Driver                        { return nil }

type stillConn struct{ stillRows }

func (stillConn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (stillConn) Close() error                        { return nil }
func (stillConn) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }

func (c stillConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &c.stillRows, nil
}

func (d *stillRows) Columns() []string { return make([]string, len(d.values)) }
func (d *stillRows) Close() error      { return nil }

func (d *stillRows) Next(dest []driver.Value) error {
	if d.n--; d.n < 0 {
		return io.EOF
	}
	copy(dest, d.values)
	return nil
}

// The cells add no allocations to those of database/sql.
func TestScanAddsNoAllocations(t *testing.T) {
	const n = 5000
	var values []driver.Value
	for _, v := range sample() {
		values = append(values, v)
	}
	db := sql.OpenDB(stillRows{n, values})
	defer db.Close()

	b := row.NewBuilder(sampleColumns(), n)
	allocs := testing.AllocsPerRun(3, func() {
		rows, err := db.Query("")
		require.NoError(t, err)
		for rows.Next() {
			require.NoError(t, rows.Scan(b.Dest()...))
			b.Add()
		}
		require.NoError(t, rows.Err())
		require.Len(t, b.Rows(), n)
	})
	assert.Less(t, allocs, 100.0, "for %d rows", n)
	t.Logf("%.3f allocations a row", allocs/n)
}
