package ceilings

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Concurrent writers with rollbacks, savepoints and deletions: a reader must deliver each
// committed row once. A reader of a table without AUTOINCREMENT must lose rows.
func TestSQLiteWriters(t *testing.T) {
	t.Parallel()
	for _, driver := range []dbtest.Driver{dbtest.Modernc, dbtest.NCruces} {
		for _, mode := range []string{"wal", "delete"} {
			t.Run(fmt.Sprint(driver, " ", mode), func(t *testing.T) {
				t.Parallel()
				db := dbtest.SQLite(t).Open(t, driver)
				var now string
				require.NoError(t, db.Get(&now, `pragma journal_mode = `+mode))
				require.Equal(t, mode, now)
				testSQLiteWriters(t, db)
			})
		}
	}
}

func testSQLiteWriters(t *testing.T, db *sqlx.DB) {
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	perWriter := 150
	if testing.Short() {
		perWriter = 40
	}
	db.MustExec(`create table good (id integer primary key autoincrement, note text not null)`)
	db.MustExec(`create table bad (id integer primary key, note text not null)`)
	var mu sync.Mutex
	committed := map[string]bool{}
	var writers sync.WaitGroup
	for w := range 6 {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() {
			for i := range perWriter {
				kept, err := writeSQLite(t, db, random, fmt.Sprint(w, " ", i))
				if err != nil {
					continue // BUSY: rolled back
				}
				mu.Lock()
				for _, note := range kept {
					committed[note] = true
				}
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	good, bad := lab.Silent(db, "good", "id"), lab.Silent(db, "bad", "id")
	bad.Ceiling = ceiling.None{}
	failed := 0
	var goodAt, badAt source.Cursor
	seen, seenBad := map[string]int{}, map[string]int{}
	read := func(table *sqlsource.Table, at source.Cursor, into map[string]int) (source.Cursor, bool) {
		b, err := table.Fetch(t.Context(), at, 7)
		if err != nil { // BUSY: a Poller would retry
			failed++
			require.Less(t, failed, 100_000, "%v", err)
			return at, false
		}
		for _, r := range b.Records {
			into[r.Text(1)]++
		}
		return b.To, b.To == at
	}
	for ended, idle := false, false; !ended || !idle; {
		select {
		case <-done:
			ended = true
		default:
		}
		var goodIdle, badIdle bool
		goodAt, goodIdle = read(good, goodAt, seen)
		badAt, badIdle = read(bad, badAt, seenBad)
		idle = goodIdle && badIdle
	}
	require.Greater(t, len(committed), perWriter)
	lost, lostBad := 0, 0
	for note := range committed {
		if seen[note] != 1 {
			lost++
		}
		if seenBad[note] == 0 {
			lostBad++
		}
	}
	require.Zero(t, lost, "of %d", len(committed))
	for note, n := range seen {
		require.Equal(t, 1, n, note)
	}
	for _, statement := range []string{`insert into % (note) values ('last')`, `delete from % where note = 'last'`, `insert into % (note) values ('in its place')`} {
		db.MustExec(strings.Replace(statement, "%", "good", 1))
		db.MustExec(strings.Replace(statement, "%", "bad", 1))
		goodAt, _ = read(good, goodAt, seen)
		badAt, _ = read(bad, badAt, seenBad)
	}
	require.Equal(t, 1, seen["in its place"])
	require.Zero(t, seenBad["in its place"], "the test shows nothing")
	t.Logf("%d rows committed; 0 lost; %d lost without AUTOINCREMENT", len(committed)+2, lostBad+1)
}

// writeSQLite runs a transaction that inserts rows into both tables and deletes some of
// them, and returns the notes of the remaining rows. A second transaction always deletes
// the last row, which may have been read by then.
func writeSQLite(t *testing.T, db *sqlx.DB, random *rand.Rand, name string) (kept []string, err error) {
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	add := func(note string) error {
		_, failed := tx.Exec(`insert into good (note) values (?)`, note)
		_, failed2 := tx.Exec(`insert into bad (note) values (?)`, note)
		return errors.Join(failed, failed2)
	}
	for i := range 1 + random.IntN(5) {
		note := fmt.Sprint(name, " ", i)
		if random.IntN(3) == 0 { // rolled back to a savepoint
			_, err = tx.Exec(`savepoint s`)
			if err = errors.Join(err, add("never "+note)); err != nil {
				return nil, err
			}
			if _, err = tx.Exec(`rollback to s`); err != nil {
				return nil, err
			}
		}
		if err := add(note); err != nil {
			return nil, err
		}
		kept = append(kept, note)
	}
	if random.IntN(5) == 0 {
		return nil, errors.Join(errors.New("rolled back"), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	if random.IntN(2) == 0 {
		last := kept[len(kept)-1]
		for _, table := range []string{"good", "bad"} {
			_, _ = db.Exec(`delete from `+table+` where note = ?`, last) // may be BUSY: then the row stays
		}
		kept = kept[:len(kept)-1]
	}
	return kept, nil
}
