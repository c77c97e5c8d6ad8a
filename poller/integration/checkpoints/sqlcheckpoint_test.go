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

// eachCheckpointDriver runs test with each driver, on an empty database.
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

// The same with the statement that the documentation gives to humans.
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

// Pipelines share a table, and no name or table's name gets out of its quotes.
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
			assert.WithinDuration(t, time.Now(), entries[i].Time, time.Minute)
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

// checkpointedOrder and checkpointedOrders are as in the example of sqlcheckpoint.
type checkpointedOrder struct {
	ID int64 `db:"id"`
}

type checkpointedOrders struct {
	*sqlcheckpoint.Store
	db     *sqlx.DB
	commit func(*sqlx.Tx) error
}

func (o checkpointedOrders) Write(ctx context.Context, b source.Batch[checkpointedOrder]) error {
	tx, err := o.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if moved, err := o.Advance(ctx, tx, b.From, b.To); err != nil || !moved {
		return err
	}
	for _, r := range b.Records {
		if _, err := tx.NamedExecContext(ctx, `INSERT INTO orders (id) VALUES (:id)`, r); err != nil {
			return err
		}
	}
	return o.commit(tx)
}

func commitTx(tx *sqlx.Tx) error { return tx.Commit() }

func TestCheckpointAdvance(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		db.MustExec(`CREATE TABLE orders (id BIGINT)`) // no key: twice would show
		lost := errors.New("connection lost")
		o := checkpointedOrders{openCheckpoint(t, db, sqlcheckpoint.Options{}), db, commitTx}
		batch := func(from, to source.Cursor, ids ...int64) source.Batch[checkpointedOrder] {
			b := source.Batch[checkpointedOrder]{From: from, To: to}
			for _, id := range ids {
				b.Records = append(b.Records, checkpointedOrder{id})
			}
			return b
		}
		stored := func() (ids []int64) {
			require.NoError(t, db.Select(&ids, `SELECT id FROM orders ORDER BY id`))
			return ids
		}
		require.ErrorIs(t, o.Write(t.Context(), batch("", "2", 1, 2)), poller.ErrConflict, "not loaded")
		require.Empty(t, loadedCursor(t, o.Store))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		first := batch("", "2", 1, 2)
		o.commit = func(tx *sqlx.Tx) error { return errors.Join(lost, tx.Rollback()) }
		require.ErrorIs(t, o.Write(ctx, first), lost)
		require.Empty(t, stored())
		o.commit = func(tx *sqlx.Tx) error { return errors.Join(lost, tx.Commit()) }
		require.ErrorIs(t, o.Write(ctx, first), lost)
		require.Equal(t, []int64{1, 2}, stored())
		o.commit = commitTx
		require.NoError(t, o.Write(ctx, first), "its answer was lost")
		require.ErrorIs(t, o.Write(ctx, batch("", "3", 1, 2, 3)), poller.ErrConflict, "another batch needs a Load first")
		require.Equal(t, []int64{1, 2}, stored())
		require.NoError(t, o.Save(ctx, "", "2"), "as a Poller does after Write")
		require.NoError(t, o.Write(ctx, batch("2", "3", 3)))
		require.NoError(t, o.Save(ctx, "2", "3"))

		other := checkpointedOrders{openCheckpoint(t, db, sqlcheckpoint.Options{}), db, commitTx}
		require.Equal(t, source.Cursor("3"), loadedCursor(t, other.Store))
		require.NoError(t, other.Write(ctx, batch("3", "4", 4)))
		err := o.Write(ctx, batch("3", "4", 4))
		require.ErrorIs(t, err, poller.ErrConflict, "lockstep")
		require.ErrorContains(t, err, `expected "3"`)
		require.ErrorContains(t, err, `found "4"`)
		require.Equal(t, []int64{1, 2, 3, 4}, stored())
		require.Equal(t, source.Cursor("4"), loadedCursor(t, o.Store))
		require.NoError(t, o.Write(ctx, batch("4", "4", 5)), "a cursor may stay")
	})
}

// Of two pipelines in transactions at the same time one waits and has its
// conflict.
func TestCheckpointAdvanceRace(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		db.MustExec(`CREATE TABLE orders (id BIGINT)`)
		for round := range 10 {
			from, to := source.Cursor(fmt.Sprint("at ", round)), source.Cursor(fmt.Sprint("at ", round+1))
			require.NoError(t, openCheckpoint(t, db, sqlcheckpoint.Options{}).Rewind(t.Context(), from))
			rivals := make([]checkpointedOrders, 3)
			for i := range rivals {
				rivals[i] = checkpointedOrders{openCheckpoint(t, db, sqlcheckpoint.Options{}), db, commitTx}
				require.Equal(t, from, loadedCursor(t, rivals[i].Store))
			}
			errs := make([]error, len(rivals))
			var all sync.WaitGroup
			for i, o := range rivals {
				all.Go(func() {
					for range 10 { // SQLite may be busy
						errs[i] = o.Write(t.Context(), source.Batch[checkpointedOrder]{From: from, To: to, Records: []checkpointedOrder{{int64(round)}}})
						if errs[i] == nil || errors.Is(errs[i], poller.ErrConflict) || driver != dbtest.Modernc && driver != dbtest.NCruces {
							return
						}
					}
				})
			}
			all.Wait()
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else {
					require.ErrorIs(t, err, poller.ErrConflict)
				}
			}
			require.Equal(t, 1, won)
		}
		var n int
		require.NoError(t, db.Get(&n, `SELECT count(*) FROM orders`))
		require.Equal(t, 10, n)
	})
}

// A session that goes silent inside the transaction does not keep the row.
func TestCheckpointAdvanceIdles(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t).NewDatabase(t)
	for _, driver := range d.Drivers() {
		db := d.Open(t, driver)
		silent, next := openCheckpoint(t, db, sqlcheckpoint.Options{}), openCheckpoint(t, db, sqlcheckpoint.Options{})
		at := loadedCursor(t, silent)
		require.Equal(t, at, loadedCursor(t, next))
		var tx *sqlx.Tx
		limit := 300 * time.Millisecond
		for ; ; limit *= 2 { // Advance itself may take that long, on a machine with other work
			var err error
			tx, err = db.Beginx() // of no context: nothing on this side ends it
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			_, err = silent.Advance(ctx, tx, at, "silent")
			cancel()
			if err == nil {
				break
			}
			_ = tx.Rollback() // the session may have ended
			require.Less(t, limit, patience, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit+patience)
		require.NoError(t, next.Save(ctx, at, "next "+source.Cursor(driver)), "waits for the row, and gets it")
		cancel()
		require.Error(t, tx.Commit())
	}
}

// A role that may not create tables uses the one that is there, and is told what
// is wrong where there is none.
func TestCheckpointPrivileges(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, d dbtest.Database, driver dbtest.Driver, admin *sqlx.DB, user, grant string) {
		db := d.As(user, "hunter3secret").Open(t, driver)
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
		require.Error(t, err, "a table that goes later is no new start")
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

// A Postgres transaction that cannot see the row's last change is told so by an
// error that may pass, not by a conflict or a success.
func TestCheckpointAdvanceRepeatableRead(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	a, b := openCheckpoint(t, db, sqlcheckpoint.Options{}), openCheckpoint(t, db, sqlcheckpoint.Options{})
	at := loadedCursor(t, a)
	require.Equal(t, at, loadedCursor(t, b))
	tx, err := db.BeginTxx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer tx.Rollback()
	_, err = tx.Exec(`SELECT 1 FROM devotion_checkpoint`) // takes the snapshot
	require.NoError(t, err)
	require.NoError(t, a.Save(t.Context(), at, "a"))
	moved, err := b.Advance(t.Context(), tx, at, "b")
	require.ErrorContains(t, err, "40001")
	require.NotErrorIs(t, err, poller.ErrConflict)
	require.False(t, moved)
}

// A database handle may map fields to columns in its own way.
func TestCheckpointMapper(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	db.Mapper = reflectx.NewMapperFunc("json", strings.ToLower)
	s := openCheckpoint(t, db, sqlcheckpoint.Options{})
	require.Empty(t, loadedCursor(t, s))
	require.NoError(t, s.Save(t.Context(), "", "a"))
}

// An update that does nothing, and says nothing, is not tried for ever.
func TestCheckpointDoesNotChange(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	s := openCheckpoint(t, db, sqlcheckpoint.Options{})
	require.Empty(t, loadedCursor(t, s))
	db.MustExec(`CREATE TRIGGER skip BEFORE UPDATE ON devotion_checkpoint BEGIN SELECT RAISE(IGNORE); END`)
	require.ErrorContains(t, s.Save(t.Context(), "", "a"), "can be read but does not change")
	require.ErrorContains(t, s.Rewind(t.Context(), "a"), "can be read but does not change")
}

// A table made by hand may take two names for one: no pipeline then gets the
// cursor of another.
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
