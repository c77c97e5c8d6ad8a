package dialect_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// recorder is a server that records statements and has one row.
type recorder struct {
	mu         sync.Mutex
	statements []string
}

var db = sqlx.NewDb(sql.OpenDB(&recorder{}), "sqlserver")

func (r *recorder) Connect(context.Context) (driver.Conn, error) { return conn{r}, nil }
func (r *recorder) Driver() driver.Driver                        { return nil }

type conn struct{ r *recorder }

func (c conn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not used") }
func (c conn) Begin() (driver.Tx, error)           { return nil, errors.New("not used") }
func (c conn) Close() error                        { return nil }
func (c conn) QueryContext(_ context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.statements = append(c.r.statements, q)
	switch {
	case strings.Contains(q, "count(*)"):
		return &rows{columns: []string{"n"}, values: [][]driver.Value{{int64(1)}}}, nil
	case strings.Contains(q, "sys.types"):
		return &rows{columns: []string{"name"}, values: [][]driver.Value{{"timestamp"}}}, nil
	case strings.Contains(q, "sys.columns"):
		return &rows{columns: []string{"name", "type", "not null"}, values: [][]driver.Value{{"version", "timestamp", true}}}, nil
	case strings.Contains(q, "MIN_ACTIVE"):
		return &rows{columns: []string{"active", "top"}, values: [][]driver.Value{{int64(9), int64(8)}}}, nil
	case strings.Contains(q, "recovery_fork"):
		return &rows{columns: []string{"fork", "object", "mark"}, values: [][]driver.Value{{"f", "1", int64(9)}}}, nil
	}
	r := &rows{columns: []string{"version"}}
	if strings.Contains(q, ", t.*") {
		r.columns = []string{"version", "version"}
	}
	if strings.Contains(q, "FETCH NEXT") && len(args) == 1 { // from the beginning: only the ceiling's argument
		r.values = [][]driver.Value{make([]driver.Value, len(r.columns))}
		for i := range r.columns {
			r.values[0][i] = []byte{0, 0, 0, 0, 0, 0, 0, 8}
		}
	}
	return r, nil
}

type rows struct {
	columns []string
	values  [][]driver.Value
}

func (r *rows) Columns() []string                       { return r.columns }
func (r *rows) ColumnTypeDatabaseTypeName(i int) string { return "BINARY" }
func (r *rows) Close() error                            { return nil }
func (r *rows) Next(dest []driver.Value) error {
	if len(r.values) == 0 {
		return io.EOF
	}
	copy(dest, r.values[0])
	r.values = r.values[1:]
	return nil
}

// A Table reads through a dialect that the library does not know, and no
// statement has the SQL of another database.
func TestTableThroughAnUnknownDialect(t *testing.T) {
	t.Parallel()
	server := &recorder{}
	orders := &sqlsource.Table{DB: sqlx.NewDb(sql.OpenDB(server), "sqlserver"), Name: "dbo.orders", Key: []string{"version"},
		Dialect: SQLServer{}, Logger: slog.New(slog.DiscardHandler)}
	b, err := orders.Fetch(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	require.Equal(t, "version 0x0000000000000008", b.Position)
	require.Equal(t, "row-version", b.Guarantee.Name)
	_, err = orders.Fetch(t.Context(), b.To, 10)
	require.NoError(t, err)
	_, err = orders.Check(t.Context(), b.To)
	require.NoError(t, err)
	want := "SELECT t.[version] FROM [dbo].[orders] AS t WHERE t.[version] > @p1 AND t.[version] < CONVERT(binary(8), CONVERT(bigint, @p2)) ORDER BY t.[version] OFFSET 0 ROWS FETCH NEXT 11 ROWS ONLY"
	require.Contains(t, server.statements, want)
	for _, s := range server.statements {
		require.NotRegexp(t, "LIMIT|[`\"?$]", s)
	}
}
