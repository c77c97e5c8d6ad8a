package diffsource

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/row"
)

var (
	tortureChanges = flag.Int64("diffsource.changes", 1_500, "how many changes the writers of TestTorture make in each database")
	tortureWriters = flag.Int("diffsource.writers", 6, "how many writers they are")
	tortureKills   = flag.Int("diffsource.kills", 2, "how often the pipeline is killed")
	tortureCrashes = flag.Int("diffsource.crashes", 0, "how often the server is killed")
	tortureSeed    = flag.Uint64("diffsource.seed", 1, "the seed of the writers")
)

// TestTorture kills the pipeline and the server while hostile writers change a table. The changes in the files must
// fit each other, and lead to the table's rows.
func TestTorture(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		torture(t, dbtest.PGX, func() *dbtest.Server { return dbtest.StartPostgres(t, dbtest.Args("-c", "deadlock_timeout=50ms")) }, func() *dbtest.Server { return dbtest.Postgres(t) })
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		torture(t, dbtest.MySQL, func() *dbtest.Server { return dbtest.StartMariaDB(t) }, func() *dbtest.Server { return dbtest.MariaDB(t) })
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		torture(t, dbtest.NCruces, nil, nil)
	})
}

func torture(t *testing.T, driver dbtest.Driver, private, shared func() *dbtest.Server) {
	var server *dbtest.Server
	var d dbtest.Database
	writers := *tortureWriters
	switch {
	case private == nil:
		d, writers = dbtest.SQLite(t), 1
	case *tortureCrashes > 0:
		server = private()
		d = server.NewDatabase(t)
	default:
		d = shared().NewDatabase(t)
	}
	db := d.Open(t, driver)
	db.SetMaxIdleConns(-1) // the connections of a killed server would fail
	db.MustExec(`create table t (id bigint primary key, v bigint not null, note varchar(200))`)
	w := &writing{t: t, db: db, driver: driver, left: *tortureChanges}
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() { w.run(rand.New(rand.NewPCG(*tortureSeed, uint64(n)))) })
	}
	p := pipeline{Driver: driver, DSN: d.DSN(driver), Dir: t.TempDir()}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	kills, crashes := 0, 0
	run := p.start(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for writing := true; writing || kills < *tortureKills; {
		select {
		case <-done:
			writing = false
		case <-tick.C:
		}
		progress := float64(*tortureChanges-atomic.LoadInt64(&w.left)) / float64(*tortureChanges)
		if server != nil && crashes < *tortureCrashes && progress*float64(*tortureCrashes) > float64(crashes) {
			crashes++
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start())
		}
		if kills < *tortureKills && (progress*float64(*tortureKills) > float64(kills) || !writing) {
			kills++
			run.kill()
			run = p.start(t)
		}
	}
	run.kill()
	require.NoError(t, p.run(t.Context(), true))
	// On a busy machine the writers are at their end before the first pass, which knows nothing of updates and deletes.
	for _, statement := range []string{`insert into t values (5000, 0, null)`, `update t set v = -1 where id = 5000`, `delete from t where id = 5000`} {
		db.MustExec(statement)
		require.NoError(t, p.run(t.Context(), true))
	}
	w.compare(p)
	t.Logf("%d changes, %d kills, %d crashes", *tortureChanges-w.left, kills, crashes)
}

// writing are writers of one table.
type writing struct {
	t      *testing.T
	db     *sqlx.DB
	driver dbtest.Driver
	left   int64 // changes to make
	value  atomic.Int64
	again  int // changes that the files had already
}

// run makes changes until enough are made. An error of the server is expected.
func (w *writing) run(rng *rand.Rand) {
	for failed := 0; atomic.LoadInt64(&w.left) > 0; {
		n, err := w.transaction(rng)
		if err != nil {
			if failed++; failed > 100_000 {
				w.t.Errorf("the writers fail: %v", err)
				return
			}
			if strings.Contains(err.Error(), "connect") {
				<-time.After(10 * time.Millisecond)
			}
			continue
		}
		atomic.AddInt64(&w.left, -n)
	}
}

// transaction makes some changes, and sometimes rolls them back.
func (w *writing) transaction(rng *rand.Rand) (n int64, err error) {
	tx, err := w.db.Beginx()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	for range 1 + rng.IntN(5) {
		statement, savepoint := w.statement(rng), rng.IntN(8) == 0
		if savepoint {
			if _, err := tx.Exec(`savepoint s`); err != nil {
				return n, err
			}
		}
		r, err := tx.Exec(statement)
		if err != nil {
			return n, fmt.Errorf("%s: %w", statement, err)
		}
		affected, err := r.RowsAffected()
		if err != nil {
			return n, err
		}
		if savepoint && rng.IntN(2) == 0 {
			if _, err := tx.Exec(`rollback to savepoint s`); err != nil {
				return n, err
			}
			affected = 0
		}
		n += affected
	}
	if rng.IntN(10) == 0 {
		return 0, tx.Rollback()
	}
	return n, tx.Commit()
}

func (w *writing) statement(rng *rand.Rand) string {
	id, v := rng.IntN(5000), w.value.Add(1)
	upsert := fmt.Sprintf(`insert into t values (%d, %d, 'note') on conflict (id) do update set v = excluded.v`, id, v)
	if lab.IsMariaDB(w.driver) {
		upsert = fmt.Sprintf(`insert into t values (%d, %d, 'note') on duplicate key update v = values(v)`, id, v)
	}
	switch rng.IntN(40) {
	case 0:
		return fmt.Sprintf(`delete from t where id between %d and %d`, id, id+rng.IntN(300))
	case 1:
		return fmt.Sprintf(`update t set v = %d where id between %d and %d`, v, id, id+rng.IntN(100))
	case 2, 3: // a key that moves, forward or back
		return fmt.Sprintf(`update t set id = %d where id = %d and not exists (select 1 from (select id from t where id = %d) as o)`, rng.IntN(5000), id, id)
	case 4:
		if rng.IntN(50) == 0 {
			return `delete from t`
		}
		return fmt.Sprintf(`update t set note = null where id = %d`, id)
	case 5, 6, 7:
		return fmt.Sprintf(`delete from t where id = %d`, id)
	}
	return upsert
}

// compare applies the changes in the files, which must fit, and compares the result with the table.
func (w *writing) compare(p pipeline) {
	contents, err := filesink.ReadContents(p.files())
	require.NoError(w.t, err)
	rows := map[string]string{}
	seen := map[row.Op]int{}
	for _, part := range contents.Parts {
		path := part.Path
		if part.Open {
			path += ".open"
		}
		f, err := os.Open(path)
		require.NoError(w.t, err)
		lines := bufio.NewScanner(io.LimitReader(f, part.Bytes))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var c row.Change
			require.NoError(w.t, json.Unmarshal(lines.Bytes(), &c))
			w.apply(rows, c)
			seen[c.Op]++
		}
		require.NoError(w.t, errors.Join(lines.Err(), f.Close()))
	}
	got := make([]string, 0, len(rows))
	for _, r := range rows {
		got = append(got, r)
	}
	slices.Sort(got)
	want := []string{}
	found, err := w.db.Query(`select id, v, note from t`)
	require.NoError(w.t, err)
	for found.Next() {
		var id, v int64
		var note *string
		require.NoError(w.t, found.Scan(&id, &v, &note))
		text, err := json.Marshal(note)
		require.NoError(w.t, err)
		want = append(want, fmt.Sprintf(`{"id":%d,"v":%d,"note":%s}`, id, v, text))
	}
	require.NoError(w.t, found.Err())
	slices.Sort(want)
	require.Equal(w.t, want, got)
	w.t.Logf("%v, %d of them again", seen, w.again)
	require.LessOrEqual(w.t, w.again, 2*200*(*tortureKills+1), "of at most two batches for each kill")
	for _, op := range []row.Op{row.Insert, row.Update, row.Delete} {
		require.NotZero(w.t, seen[op], "%v: %v", op, seen)
	}
	require.NoError(w.t, os.RemoveAll(p.files()))
}

func (w *writing) apply(rows map[string]string, c row.Change) {
	key, text := lab.RowJSON(c.Key), ""
	had, ok := rows[key]
	if c.Op != row.Delete {
		text = lab.RowJSON(c.Row)
	}
	switch {
	case !ok && c.Op == row.Delete, ok && c.Op == row.Upsert: // a batch that a killed process had fetched is uncertain
		w.again++
	default:
		require.Equal(w.t, c.Op == row.Update || c.Op == row.Delete, ok, "%v of %s", c.Op, key)
		require.NotEqual(w.t, had, text, "%v of %s", c.Op, key)
	}
	if rows[key] = text; c.Op == row.Delete {
		delete(rows, key)
	}
}
