package poolers

import (
	"context"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/source"
)

// A checkpoint in a database behind a pooler passes the suite of checkpoints, with the drivers'
// defaults.
func TestCheckpoint(t *testing.T) {
	server := dbtest.Postgres(t)
	for _, mode := range []string{"session", "transaction", "statement"} {
		bouncer := dbtest.StartPgBouncer(t, server, mode)
		for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
			t.Run(fmt.Sprint(mode, " ", driver), func(t *testing.T) {
				db := server.NewDatabase(t).WithAddr(bouncer.Addr()).Open(t, driver)
				open := func() (*sqlcheckpoint.Store, error) {
					return sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
				}
				require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
					Open: func(context.Context) (pollertest.Opened, error) {
						s, err := open()
						return pollertest.Opened{Checkpointer: s}, err
					},
					Rewind: func(ctx context.Context, to source.Cursor) error {
						s, err := open()
						if err != nil {
							return err
						}
						return s.Rewind(ctx, to)
					},
				}))
			})
		}
	}
}

// Advance works in a transaction of the caller, with pgx by the setting that its documentation names.
func TestCheckpointAdvance(t *testing.T) {
	server := dbtest.Postgres(t)
	bouncer := dbtest.StartPgBouncer(t, server, "transaction")
	for driver, setting := range map[dbtest.Driver]string{dbtest.PGX: "&default_query_exec_mode=exec", dbtest.PQ: ""} {
		t.Run(string(driver), func(t *testing.T) {
			db, err := sqlx.Open(driver.SQLName(), server.NewDatabase(t).WithAddr(bouncer.Addr()).DSN(driver)+setting)
			require.NoError(t, err)
			defer db.Close()
			s, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
			require.NoError(t, err)
			at, err := s.Load(t.Context())
			require.NoError(t, err)
			for n := range 20 {
				to := source.Cursor(fmt.Sprint("after ", n))
				tx, err := db.BeginTxx(t.Context(), nil)
				require.NoError(t, err)
				moved, err := s.Advance(t.Context(), tx, at, to)
				require.NoError(t, err)
				require.True(t, moved)
				require.NoError(t, tx.Commit())
				require.NoError(t, s.Save(t.Context(), at, to))
				at = to
			}
			last, err := s.Load(t.Context())
			require.NoError(t, err)
			require.Equal(t, at, last)
		})
	}
}
