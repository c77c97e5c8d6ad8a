package builtin

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

func TestParseCeiling(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ceiling.Ceiling{
		"lock-fence": postgres.LockFence{}, "transaction-id": postgres.TransactionID{}, "dirty-probe": mysql.DirtyProbe{},
		"single-writer": sqlite.SingleWriter{}, "stamp": postgres.Stamp{}, "none": ceiling.None{},
		"grace=30s": ceiling.Grace{For: 30 * time.Second}, "stamp=5m": ceiling.Stamp{Margin: 5 * time.Minute}, "stamp=5m@Asia/Tokyo": ceiling.Stamp{Margin: 5 * time.Minute, Zone: "Asia/Tokyo"},
		"stamp=1h0m0.5s@+09:00":              ceiling.Stamp{Margin: time.Hour + 500*time.Millisecond, Zone: "+09:00"},
		"stamp=30s@2010-11-04T01:42:54.657Z": ceiling.Stamp{Margin: 30 * time.Second, Epoch: time.UnixMilli(1288834974657).UTC(), Bits: 22},
		"stamp=30s@1970-01-01T00:00:00Z/16":  ceiling.Stamp{Margin: 30 * time.Second, Epoch: time.Unix(0, 0).UTC(), Bits: 16},
	} {
		got, err := ParseCeiling(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := ParseCeiling(got.String())
		require.NoError(t, err, "its own name: %s", got)
		require.Equal(t, want, again)
	}
	c, err := ParseCeiling("auto")
	require.NoError(t, err)
	require.Nil(t, c)
	for _, text := range []string{"", "Auto", "lockfence", "lock-fence=1s", "none=", "grace", "grace=", "grace=30", "grace=0s", "grace=-1s", "grace=1s@UTC", "stamp=", "stamp=x", "stamp=-1s", "stamp=30s@", "stamp =5m", " auto"} {
		c, err := ParseCeiling(text)
		require.Nil(t, c, text)
		require.ErrorContains(t, err, "ceiling: ", text)
		require.ErrorContains(t, err, "want ", text)
	}
	_, err = ParseCeiling("lag=5m@UTC")
	require.ErrorContains(t, err, "lag was replaced by stamp, which waits for open transactions: write stamp=30s")
}

// driverOnly is a driver that does not connect.
type driverOnly struct{ driver.Driver }

// A driver is found by its name, or by the package of its type.
func TestFind(t *testing.T) {
	t.Parallel()
	names := map[string]dialect.Dialect{
		"pgx": postgres.Dialect{}, "pgx/v4": postgres.Dialect{}, "pgx/v5": postgres.Dialect{}, "postgres": postgres.Dialect{}, "pq": postgres.Dialect{},
		"mysql": mysql.Dialect{}, "mariadb": mysql.Dialect{}, "sqlite": sqlite.Dialect{}, "sqlite3": sqlite.Dialect{},
	}
	for name, want := range names {
		got, err := Find(sqlx.NewDb(sql.OpenDB(connector{}), name))
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	_, err := Find(sqlx.NewDb(sql.OpenDB(connector{}), "sqlserver"))
	require.ErrorContains(t, err, `the driver "sqlserver" (builtin.driverOnly) is not known as one of Postgres, MySQL or MariaDB, SQLite: set the field Dialect`)
	n := 0
	for _, d := range databases() {
		n += len(d.names)
	}
	require.Len(t, names, n)
}

type connector struct{}

func (connector) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("nowhere") }
func (connector) Driver() driver.Driver                        { return driverOnly{} }
