package xminsource_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

var (
	changes = flag.Int64("xmin.changes", 3_000, "how many changes the writers of TestTorture make")
	writers = flag.Int("xmin.writers", 8, "how many writers there are")
	kills   = flag.Int("xmin.kills", 2, "how often the reading process is killed")
	crashes = flag.Int("xmin.crashes", 1, "how often the server is killed")
	bulk    = flag.Int("xmin.bulk", 5_000, "how many rows one transaction inserts in the middle")
)

const tortureTables = `CREATE SEQUENCE versions;
	CREATE TABLE parent (id bigint PRIMARY KEY);
	CREATE TABLE t (id bigint PRIMARY KEY, v bigint NOT NULL DEFAULT nextval('versions'), parent bigint REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE, pad text);
	INSERT INTO parent SELECT generate_series(1, 50)`

// torture is a table that hostile writers change.
type torture struct {
	t       *testing.T
	server  *dbtest.Server
	db      *sqlx.DB
	made    atomic.Int64
	prepare atomic.Int64
	keys    int64
}

// TestTorture kills the reading process and the server while writers write. Nothing is lost, nothing comes twice, the
// order of each key is kept, and in the end the copy equals the table.
func TestTorture(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "lock_timeout=10s"))
	database := server.NewDatabase(t)
	x := &torture{t: t, server: server, db: database.Open(t, dbtest.PGX), keys: max(200, *changes/10)}
	x.db.MustExec(tortureTables)
	sinkDatabase := dbtest.Postgres(t).NewDatabase(t)
	sink := sinkDatabase.Open(t, dbtest.PGX)
	sink.MustExec(sinkTables)
	reader := &process{t: t, source: database.DSN(dbtest.PGX), sink: sinkDatabase.DSN(dbtest.PGX), keys: t.TempDir()}
	reader.start()
	var group sync.WaitGroup
	for n := range *writers {
		group.Go(func() { x.write(rand.New(rand.NewPCG(uint64(n), 7))) })
	}
	group.Go(x.bulk)
	x.disturb(reader)
	group.Wait()
	x.settle()
	reader.kill()
	lab.CloseIdle(x.db)
	t.Logf("the reading process took at most %d MB", reader.peak>>10)
	src := withDeletes(t, x.db, reader.keys, "t", "id")
	for idle := 0; idle < 2; { // the second time, the last key pass has begun after all deletes
		done, err := copyOnce(t.Context(), src, sink)
		require.NoError(t, err)
		if done {
			idle++
		}
	}
	x.compare(sink)
}

// disturb kills the reading process and the server, spread over the changes.
func (x *torture) disturb(reader *process) {
	total := *kills + *crashes
	for n := 1; n <= total; n++ {
		lab.Reach(x.t, &x.made, *changes*int64(n)/int64(total+1))
		if n**crashes/total > (n-1)**crashes/total {
			require.NoError(x.t, x.server.Kill())
			for try := 0; ; try++ {
				err := x.server.Start()
				if err == nil {
					break
				}
				require.Less(x.t, try, 20, "the server does not start: %v", err)
			}
			x.settle()
			continue
		}
		reader.kill()
		reader.start()
	}
}

// write makes transactions until there are enough changes. Errors are those of crashes, deadlocks and conflicts.
func (x *torture) write(r *rand.Rand) {
	for x.made.Load() < *changes {
		conn, err := x.db.Conn(context.Background())
		if err != nil {
			continue
		}
		for n := 0; n < 50 && err == nil && x.made.Load() < *changes; n++ {
			err = x.transaction(conn, r)
		}
		conn.Close()
	}
}

// transaction makes one transaction.
func (x *torture) transaction(conn *sql.Conn, r *rand.Rand) error {
	exec := func(format string, args ...any) error {
		_, err := conn.ExecContext(context.Background(), fmt.Sprintf(format, args...))
		return err
	}
	if err := exec("SET synchronous_commit = %s", []string{"on", "off"}[r.IntN(2)]); err != nil {
		return err
	}
	if err := exec("BEGIN"); err != nil {
		return err
	}
	depth, made := 0, int64(0)
	for range 1 + r.IntN(8) {
		var err error
		switch key := r.Int64N(x.keys); r.IntN(14) {
		case 0, 1, 2:
			err = exec("INSERT INTO t (id, parent) VALUES (%d, %d) ON CONFLICT DO NOTHING", key, 1+r.IntN(50))
		case 3, 4, 5:
			err = exec("UPDATE t SET v = nextval('versions'), pad = repeat('x', %d) WHERE id = %d", r.IntN(300), key)
		case 6:
			err = exec("INSERT INTO t (id) VALUES (%d) ON CONFLICT (id) DO UPDATE SET v = nextval('versions')", key)
		case 7:
			err = exec("UPDATE t SET v = nextval('versions') WHERE id BETWEEN %d AND %[1]d + 9", key)
		case 8:
			err = exec("UPDATE t SET id = %d, v = nextval('versions') WHERE id = %d", r.Int64N(x.keys), key)
		case 9:
			err = exec("DELETE FROM t WHERE id = %d", key)
		case 10:
			err = exec("SELECT FROM t WHERE id = %d FOR %s", key, []string{"UPDATE", "SHARE", "KEY SHARE"}[r.IntN(3)])
		case 11:
			depth++
			err = exec("SAVEPOINT s%d", depth)
		case 12:
			if depth > 0 {
				err = exec("%s s%d", []string{"RELEASE", "ROLLBACK TO"}[r.IntN(2)], depth)
				depth--
			}
		case 13:
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) // an open transaction
		}
		if err != nil {
			return exec("ROLLBACK")
		}
		made++
	}
	switch {
	case r.IntN(12) == 0:
		return exec("ROLLBACK")
	case r.IntN(40) == 0:
		name := fmt.Sprintf("p%d", x.prepare.Add(1))
		if err := exec("PREPARE TRANSACTION '%s'", name); err != nil {
			return exec("ROLLBACK")
		}
		time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
		return exec("%s PREPARED '%s'", []string{"COMMIT", "ROLLBACK"}[r.IntN(2)], name)
	}
	x.made.Add(made)
	return exec("COMMIT")
}

// bulk inserts many rows in one transaction, and again if a crash takes it back.
func (x *torture) bulk() {
	lab.Reach(x.t, &x.made, *changes/3)
	for range 100 {
		if _, err := x.db.Exec(`INSERT INTO t (id) SELECT -n FROM generate_series(1, $1::int) AS n`, *bulk); err == nil {
			return
		}
	}
	x.t.Error("the bulk of rows was never inserted")
}

// settle ends prepared transactions that a crash has left: they lock rows. The writer of one may end it first.
func (x *torture) settle() {
	var names []string
	for range 100 { // some connections of the pool are dead
		if err := x.db.Select(&names, `SELECT gid FROM pg_prepared_xacts WHERE database = current_database()`); err == nil {
			break
		}
	}
	for _, name := range names {
		x.db.Exec(fmt.Sprintf(`COMMIT PREPARED '%s'`, name)) //nolint:errcheck // it may be gone
	}
}

// compare compares the last change of each key with the table, and looks for repetitions and disorder.
func (x *torture) compare(sink *sqlx.DB) {
	var n, deletes, twice, disorder int64
	require.NoError(x.t, sink.QueryRow(`SELECT count(*), count(*) FILTER (WHERE deleted), count(v) - count(DISTINCT (id, v)) FILTER (WHERE NOT deleted) FROM sink`).Scan(&n, &deletes, &twice))
	require.NoError(x.t, sink.Get(&disorder, `SELECT count(*) FROM (SELECT v, lag(v) OVER (PARTITION BY id ORDER BY n) AS before FROM sink WHERE NOT deleted) AS s WHERE v <= before`))
	var needless int64 // deletes of keys that the copy does not have: after a kill, of rows that were read and not delivered
	require.NoError(x.t, sink.Get(&needless, `SELECT count(*) FROM (SELECT deleted, lag(deleted) OVER (PARTITION BY id ORDER BY n) AS before FROM sink) AS s WHERE deleted AND COALESCE(before, true)`))
	last := map[int64]int64{}
	each(x.t, sink, `SELECT DISTINCT ON (id) id, COALESCE(v, -1) FROM sink ORDER BY id, n DESC`, func(id, v int64) { last[id] = v })
	lost, rows := 0, 0
	each(x.t, x.db, `SELECT id, v FROM t`, func(id, v int64) {
		if rows++; last[id] != v {
			if lost++; lost < 10 {
				x.t.Errorf("the row %d has the version %d, the sink has %d", id, v, last[id])
			}
		}
		delete(last, id)
	})
	left := 0
	for _, v := range last {
		if v >= 0 {
			left++
		}
	}
	x.t.Logf("%d changes, %d delivered, %d of them deletes, %d rows at the end: lost %d, twice %d, out of order %d, not deleted %d, deleted without need %d",
		x.made.Load(), n, deletes, rows, lost, twice, disorder, left, needless)
	assert.Zero(x.t, lost, "lost")
	assert.Zero(x.t, twice, "twice")
	assert.Zero(x.t, disorder, "out of order")
	assert.Zero(x.t, left, "not deleted")
}

func each(t *testing.T, db *sqlx.DB, query string, f func(id, v int64)) {
	rows, err := db.Query(query)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, v int64
		require.NoError(t, rows.Scan(&id, &v))
		f(id, v)
	}
	require.NoError(t, rows.Err())
}
