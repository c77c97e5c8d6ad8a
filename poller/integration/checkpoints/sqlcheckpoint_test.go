package checkpoints

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/source"
)

// eachCheckpointDriver runs a test with each driver, on an empty database.
func eachCheckpointDriver(t *testing.T, test func(*testing.T, dbtest.Database, dbtest.Driver)) {
	t.Parallel()
	for name, create := range map[string]func(testing.TB) dbtest.Database{
		"postgres": func(tb testing.TB) dbtest.Database { return dbtest.Postgres(tb).NewDatabase(tb) },
		"mariadb":  func(tb testing.TB) dbtest.Database { return dbtest.MariaDB(tb).NewDatabase(tb) },
		"sqlite":   dbtest.SQLite,
	} {
		t.Run(name, func(t *testing.T) {
			for _, driver := range create(t).Drivers() {
				t.Run(string(driver), func(t *testing.T) { test(t, create(t), driver) })
			}
		})
	}
}

func openCheckpoint(t *testing.T, db *sqlx.DB, o sqlcheckpoint.Options) *sqlcheckpoint.Store {
	s, err := sqlcheckpoint.New(db, "orders", o)
	require.NoError(t, err)
	return s
}

func loadedCursor(t *testing.T, s *sqlcheckpoint.Store) source.Cursor {
	c, err := s.Load(t.Context())
	require.NoError(t, err)
	return c
}

func TestCheckpointConformance(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
			Open: func(context.Context) (pollertest.Opened, error) {
				s, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
				return pollertest.Opened{Checkpointer: s}, err
			},
			Rewind: func(ctx context.Context, to source.Cursor) error {
				return openCheckpoint(t, db, sqlcheckpoint.Options{}).Rewind(ctx, to)
			},
		}))
	})
}

// The suite of checkpoints passes if rewinding uses the SQL statement from the
// documentation.
func TestCheckpointRewoundInSQL(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		humans := 0
		require.NoError(t, pollertest.TestCheckpointer(t.Context(), pollertest.Options{
			Open: func(context.Context) (pollertest.Opened, error) {
				s, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
				return pollertest.Opened{Checkpointer: s}, err
			},
			Rewind: func(ctx context.Context, to source.Cursor) error {
				humans++
				_, err := db.ExecContext(ctx, fmt.Sprintf(`UPDATE devotion_checkpoint SET cur = '%s', writer = 'anna %d' WHERE name = 'orders'`, to, humans))
				return err
			},
		}))
	})
}

// Pipelines share a table, and names of pipelines and tables are always quoted.
func TestCheckpointNames(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		o := sqlcheckpoint.Options{Table: "check`\"'?; $1 -- :x"}
		for _, name := range []string{"orders", "Orders", "orders' OR '1'='1", `o\'`, "orders?"} {
			s, err := sqlcheckpoint.New(db, name, o)
			require.NoError(t, err)
			require.Empty(t, loadedCursor(t, s), name)
			require.NoError(t, s.Save(t.Context(), "", source.Cursor(name)))
			s, err = sqlcheckpoint.New(db, name, o)
			require.NoError(t, err)
			require.Equal(t, source.Cursor(name), loadedCursor(t, s))
		}
	})
}

func TestCheckpointCreatedByManyAtOnce(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		for round := range 5 {
			o := sqlcheckpoint.Options{Table: fmt.Sprintf("checkpoint_%d", round)}
			errs := make([]error, 6)
			var all sync.WaitGroup
			for i := range errs {
				s := openCheckpoint(t, db, o)
				all.Go(func() { _, errs[i] = s.Load(t.Context()) })
			}
			all.Wait()
			require.NoError(t, errors.Join(errs...))
		}
	})
}

func TestCheckpointHistory(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		s := openCheckpoint(t, db, sqlcheckpoint.Options{History: 4})
		at := loadedCursor(t, s)
		for i := range 10 {
			to := source.Cursor(strings.Repeat(string(rune('a'+i)), source.MaxCursor))
			require.NoError(t, s.Save(t.Context(), at, to))
			at = to
		}
		entries, err := s.History(t.Context())
		require.NoError(t, err)
		require.Len(t, entries, 4)
		for i, want := range []string{"j", "i", "h", "g"} {
			assert.Equal(t, source.Cursor(strings.Repeat(want, source.MaxCursor)), entries[i].Cursor)
			assert.WithinDuration(t, time.Now(), entries[i].Time, time.Hour)
			assert.Equal(t, entries[0].Writer, entries[i].Writer)
		}
		require.NoError(t, s.Rewind(t.Context(), entries[2].Cursor))
		require.ErrorIs(t, s.Save(t.Context(), at, "x"), poller.ErrConflict)
		require.Equal(t, entries[2].Cursor, loadedCursor(t, s))
		require.NoError(t, s.Save(t.Context(), entries[2].Cursor, "x"))
		entries, err = s.History(t.Context())
		require.NoError(t, err)
		require.Contains(t, entries[1].Writer, "rewind-")

		db.MustExec(`DELETE FROM devotion_checkpoint`)
		_, err = s.Load(t.Context())
		require.ErrorContains(t, err, "not a new start")
		require.ErrorContains(t, s.Save(t.Context(), "x", "y"), "not a new start")
		require.NoError(t, s.Rewind(t.Context(), "x"))
		require.Equal(t, source.Cursor("x"), loadedCursor(t, s))
	})
}

// A role without the right to create tables uses an existing table. If the table does not
// exist, the error says what is wrong.
func TestCheckpointPrivileges(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, d dbtest.Database, driver dbtest.Driver, admin *sqlx.DB, user, grant string) {
		db := d.WithUser(user, "hunter3secret").Open(t, driver)
		s := openCheckpoint(t, db, sqlcheckpoint.Options{})
		_, err := s.Load(t.Context())
		require.ErrorContains(t, err, "nor created")
		require.NotContains(t, err.Error(), "hunter3secret")
		admin.MustExec(openCheckpoint(t, admin, sqlcheckpoint.Options{}).Schema())
		_, err = s.Load(t.Context())
		require.ErrorContains(t, err, "sqlcheckpoint: \"orders\": load: ")
		admin.MustExec(grant)
		at := loadedCursor(t, s)
		require.NoError(t, s.Save(t.Context(), at, "a"))
		admin.MustExec(`DROP TABLE devotion_checkpoint`)
		_, err = s.Load(t.Context())
		require.Error(t, err, "a table dropped later is an error, not a new start")
	}
	t.Run("postgres", func(t *testing.T) {
		for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
			d := dbtest.Postgres(t).NewDatabase(t)
			admin, user := d.Open(t, driver), d.Name()+"_user"
			admin.MustExec(`CREATE ROLE ` + user + ` LOGIN PASSWORD 'hunter3secret'`)
			admin.MustExec(`REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
			check(t, d, driver, admin, user, `GRANT SELECT, INSERT, UPDATE ON devotion_checkpoint TO `+user)
		}
	})
	t.Run("mariadb", func(t *testing.T) {
		d := dbtest.MariaDB(t).NewDatabase(t)
		admin, user := d.Open(t, dbtest.MySQL), d.Name()+"_user"
		admin.MustExec(`CREATE USER ` + user + ` IDENTIFIED BY 'hunter3secret'`)
		admin.MustExec("GRANT DELETE ON `" + d.Name() + "`.* TO " + user)
		check(t, d, dbtest.MySQL, admin, user, `GRANT SELECT, INSERT, UPDATE ON devotion_checkpoint TO `+user)
	})
}

// A Postgres transaction whose snapshot is older than the row's last change gets a
// transient error, not a conflict or a success.
func TestCheckpointAdvanceRepeatableRead(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	a, b := openCheckpoint(t, db, sqlcheckpoint.Options{}), openCheckpoint(t, db, sqlcheckpoint.Options{})
	at := loadedCursor(t, a)
	require.Equal(t, at, loadedCursor(t, b))
	tx, err := db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer tx.Rollback()
	_, err = tx.Exec(`SELECT 1 FROM devotion_checkpoint`) // creates the snapshot
	require.NoError(t, err)
	require.NoError(t, a.Save(t.Context(), at, "a"))
	moved, err := b.Advance(t.Context(), tx, at, "b")
	require.ErrorContains(t, err, "40001")
	require.NotErrorIs(t, err, poller.ErrConflict)
	require.False(t, moved)
}

// A database handle may have its own mapping of fields to columns.
func TestCheckpointMapper(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	db.Mapper = reflectx.NewMapperFunc("json", strings.ToLower)
	s := openCheckpoint(t, db, sqlcheckpoint.Options{})
	require.Empty(t, loadedCursor(t, s))
	require.NoError(t, s.Save(t.Context(), "", "a"))
}

// An UPDATE that succeeds without changing the row is an error, and is not retried for
// ever.
func TestCheckpointDoesNotChange(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	s := openCheckpoint(t, db, sqlcheckpoint.Options{})
	require.Empty(t, loadedCursor(t, s))
	db.MustExec(`CREATE TRIGGER skip BEFORE UPDATE ON devotion_checkpoint BEGIN SELECT RAISE(IGNORE); END`)
	require.ErrorContains(t, s.Save(t.Context(), "", "a"), "can be read but does not change")
	require.ErrorContains(t, s.Rewind(t.Context(), "a"), "can be read but does not change")
}

// A table created by hand may compare names without case. A pipeline then does not get the
// cursor of another one.
func TestCheckpointNamesOfOtherCase(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	s := openCheckpoint(t, db, sqlcheckpoint.Options{})
	db.MustExec(strings.Replace(s.Schema(), "name     TEXT", "name TEXT COLLATE NOCASE", 1))
	require.Empty(t, loadedCursor(t, s))
	require.NoError(t, s.Save(t.Context(), "", "a"))
	other, err := sqlcheckpoint.New(db, "Orders", sqlcheckpoint.Options{})
	require.NoError(t, err)
	_, err = other.Load(t.Context())
	require.ErrorContains(t, err, `the database returned the row of "orders"`)
}
