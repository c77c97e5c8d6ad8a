package snapshot

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// transferring creates accounts in three tables: by a number, by a composite key of text, and without a key.
func transferring(db *sqlx.DB, driver dbtest.Driver, n int) []string {
	if !lab.IsPostgres(driver) && !lab.IsMariaDB(driver) {
		db.MustExec(`pragma journal_mode = wal`)
	}
	db.MustExec(`create table by_number (id ` + lab.IDColumn(driver) + `, amount int not null)`)
	db.MustExec(`create table by_text (branch varchar(20) not null, id int not null, amount int not null, primary key (branch, id))`)
	db.MustExec(`create table by_none (id int, amount int)`)
	for i := range n {
		db.MustExec(fmt.Sprintf(`insert into by_number (amount) values (%d)`, 100))
		db.MustExec(fmt.Sprintf(`insert into by_text values ('branch %d', %d, 100)`, i%3, i))
		db.MustExec(fmt.Sprintf(`insert into by_none values (%d, 100)`, i))
	}
	return []string{"by_number", "by_none", "by_text"}
}

// While money moves between the tables, and accounts are opened and closed, a snapshot's sum is that of its moment,
// whatever is committed between two batches.
func TestOneMoment(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		const n, seed = 40, 7
		names := transferring(db, driver, n)
		random := rand.New(rand.NewPCG(seed, 1))
		c := changesOf(t, db, names...)
		var after source.Cursor
		sums, rows := map[string]int{}, 0
		for moved := 0; ; moved++ {
			b, err := lab.Fetch(t, c, after, 7)
			require.NoError(t, err)
			for _, change := range b.Records {
				amount, _ := change.Row.Get("amount")
				v, err := strconv.Atoi(amount)
				require.NoError(t, err)
				sums[change.Table] += v
				rows++
			}
			after = b.To
			if !b.More {
				require.Greater(t, moved, 10)
				break
			}
			require.Less(t, moved, 100, "the end is not reached while rows are added")
			move(t, db, names, random, moved)
		}
		require.Equal(t, 3*n, rows, "seed %d", seed)
		for table, sum := range sums {
			require.Equal(t, 100*n, sum, "%s, seed %d", table, seed)
		}
		require.Len(t, sums, 3)
		_, err := c.Fetch(t.Context(), after, 7)
		require.ErrorIs(t, err, source.ErrEnd)

		// The next snapshot has the rows written since.
		require.NoError(t, c.Close())
		later, _ := lab.ReadAll(t, c, "", 100, func(c row.Change) string { return c.Table })
		require.NotEqual(t, 3*n, len(later))
	})
}

// move moves money from each table to the next one, opens an account in each, and closes others.
func move(t *testing.T, db *sqlx.DB, names []string, random *rand.Rand, round int) {
	t.Helper()
	tx, err := db.Begin()
	require.NoError(t, err)
	defer tx.Rollback()
	for i, from := range names {
		to, amount := names[(i+1)%len(names)], random.IntN(50)
		for _, statement := range []string{
			fmt.Sprintf(`update %s set amount = amount - %d where id = %d`, from, amount, random.IntN(40)),
			fmt.Sprintf(`update %s set amount = amount + %d where id = %d`, to, amount, random.IntN(40)),
			fmt.Sprintf(`delete from %s where id = %d`, from, random.IntN(40)),
		} {
			_, err := tx.Exec(statement)
			require.NoError(t, err)
		}
	}
	for _, statement := range []string{
		fmt.Sprintf(`insert into by_number (id, amount) values (%d, 5)`, 1000+round),
		fmt.Sprintf(`insert into by_text values ('a', %d, 5)`, 1000+round),
		fmt.Sprintf(`insert into by_none values (%d, 5)`, 1000+round),
	} {
		_, err := tx.Exec(statement)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}
