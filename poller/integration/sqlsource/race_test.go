package sqlsource

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// While another connection changes the columns, every cell has the value of its column, and
// no value of a written column is missing.
func TestSQLSourceColumnsChangeConcurrently(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table orders (id ` + lab.IDColumn(driver) + `, v varchar(20), c0 varchar(20))`)
		rounds := 60
		if testing.Short() {
			rounds = 15
		}
		done := make(chan error, 1)
		go func() {
			done <- func() error {
				id := 0
				exec := func(format string, args ...any) error {
					_, err := db.Exec(fmt.Sprintf(format, args...))
					return err
				}
				for i := range rounds {
					for range 5 {
						id++
						if err := exec(`insert into orders (v, c%d) values ('v-%d', 'c%d-%d')`, i, id, i, id); err != nil {
							return err
						}
					}
					steps := []string{
						fmt.Sprintf(`alter table orders rename column c%d to c%d`, i, i+1),
						fmt.Sprintf(`alter table orders add column c%d varchar(20)`, i+1),
					}
					if i%2 == 0 {
						steps = steps[:1]
					} else {
						steps = []string{steps[1], fmt.Sprintf(`alter table orders drop column c%d`, i)}
					}
					for _, s := range steps {
						if err := exec("%s", s); err != nil {
							return err
						}
					}
				}
				return nil
			}()
		}()
		table := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Logger: slog.New(slog.DiscardHandler)}
		var after source.Cursor
		next, errs := 1, 0
		for ended := false; ; {
			b, err := lab.Fetch(t, table, after, 7)
			if err != nil { // a lock, or more changes than one fetch tolerates
				errs++
				require.Less(t, errs, 100, "%v", err)
				continue
			}
			for _, r := range b.Records {
				require.Equal(t, fmt.Sprint(next), r.Text(0))
				for i := 1; i < r.Len(); i++ {
					name := r.Columns().Name(i)
					if !r.IsNull(i) && name == "v" {
						require.Equal(t, fmt.Sprintf("v-%d", next), r.Text(i))
					} else if !r.IsNull(i) {
						require.Regexp(t, fmt.Sprintf(`^c\d+-%d$`, next), r.Text(i), "column %s", name)
					}
				}
				_, ok := r.Get("v")
				require.True(t, ok, "v of %d", next)
				next++
			}
			after = b.To
			if ended && len(b.Records) == 0 {
				break
			}
			if !ended {
				select {
				case err := <-done:
					require.NoError(t, err)
					ended = true
				default:
				}
			}
		}
		require.Equal(t, rounds*5+1, next)
	})
}

// A connection of the pool may not know of a change by another connection until it runs a
// statement, which may be its first one.
func TestSQLSourceColumnsChangedOnAnotherConnection(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.SetMaxOpenConns(2)
		other, err := db.Connx(t.Context())
		require.NoError(t, err)
		defer other.Close()
		_, err = other.ExecContext(t.Context(), `create table orders (id `+lab.IDColumn(driver)+`, v varchar(20))`)
		require.NoError(t, err)
		_, err = other.ExecContext(t.Context(), `insert into orders (v) values ('a')`)
		require.NoError(t, err)
		for _, change := range []string{"add column x int", "add column y int", "drop column x", "rename column y to z"} {
			var before, after sqlsource.Table
			for _, table := range []*sqlsource.Table{&before, &after} {
				table.DB, table.Name, table.Key, table.Ceiling = db, "orders", []string{"id"}, ceiling.None{}
			}
			_, err := lab.Fetch(t, &before, "", 10)
			require.NoError(t, err)
			_, err = other.ExecContext(t.Context(), "alter table orders "+change)
			require.NoError(t, err)
			b, err := lab.Fetch(t, &after, "", 10)
			require.NoError(t, err, change)
			require.Len(t, b.Records, 1)
		}
	})
}
