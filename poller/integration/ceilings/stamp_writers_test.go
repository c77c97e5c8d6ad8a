package ceilings

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

var writersFor = flag.Duration("ceilings.writers", 2*time.Second, "how long the writers of TestStampWriters work")

const (
	hotRows = 40
	writers = 8
)

// hostile are writers that set the time of a row in every way that the margin or the transactions cover.
type hostile struct {
	db      *sqlx.DB
	driver  dbtest.Driver
	margin  time.Duration
	version atomic.Int64
	commits atomic.Int64
}

// unlisted is a dialect that does not list transactions: its reader trusts the margin alone.
type unlisted struct {
	dialect.Dialect
	clock string
}

func (u unlisted) Transactions(context.Context, ceiling.Queryer, ceiling.Table, *ceiling.Report) (ceiling.Transactions, error) {
	return ceiling.Unlisted(u.clock), nil
}

// Writers have long transactions, lagging clocks, lock waits, savepoints and prepared transactions. In the end a reader
// has the last version of each row, as an independent SELECT shows. A reader that trusts the margin alone does not.
func TestStampWriters(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		h := &hostile{db: db, driver: driver, margin: 250 * time.Millisecond}
		naive := unlisted{postgres.Dialect{}, `select (extract(epoch from clock_timestamp()) * 1000000)::bigint`}
		typ := "timestamptz"
		switch {
		case lab.IsMariaDB(driver):
			typ, naive = "datetime(6)", unlisted{mysql.Dialect{}, `select timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))`}
		case !lab.IsPostgres(driver):
			typ, naive.Dialect, h.margin = "bigint", nil, 2*time.Second // to the commit
			db.MustExec(`pragma journal_mode = wal`)
		}
		db.MustExec(`create table t (id int not null primary key, at ` + typ + ` not null, version bigint not null)`)
		db.MustExec(`create index by_at on t (at, id)`)
		for id := range hotRows {
			db.MustExec(fmt.Sprintf(`insert into t values (%d, %s, 0)`, id, h.literal(time.Now().Add(-time.Hour))))
		}
		readers := []*follower{{table: stamped(db, "t", ceiling.Stamp{Margin: h.margin, Zone: "UTC"}, "at", "id")}}
		if naive.Dialect != nil {
			readers = append(readers, &follower{table: stamped(db, "t", ceiling.Stamp{Margin: h.margin, Zone: "UTC"}, "at", "id")})
			readers[1].table.Dialect = naive
		}
		h.attack(t, readers)
		lost := make([]int, len(readers))
		for i, r := range readers {
			r.drain(t)
			lost[i] = r.lost(t, db)
		}
		t.Logf("%d commits; lost %d", h.commits.Load(), lost)
		require.Zero(t, lost[0])
		if naive.Dialect != nil {
			require.Positive(t, lost[1], "the writers do not put the reader to the test")
		}
	})
}

// literal writes a time for the column.
func (h *hostile) literal(t time.Time) string {
	switch {
	case lab.IsPostgres(h.driver):
		return quoted(time.RFC3339Nano)(t)
	case lab.IsMariaDB(h.driver):
		return utc("2006-01-02 15:04:05.000000")(t)
	}
	return fmt.Sprint(t.UnixMicro())
}

// attack lets the writers work while the readers poll.
func (h *hostile) attack(t *testing.T, readers []*follower) {
	seed := rand.Uint64()
	ctx, cancel := context.WithTimeout(t.Context(), *writersFor)
	defer cancel()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for n := 0; ctx.Err() == nil; n++ {
				h.write(random, w, n)
			}
		})
	}
	for ctx.Err() == nil {
		for _, r := range readers {
			r.poll(t)
		}
		time.Sleep(time.Millisecond) // leave the processor to the writers
	}
	all.Wait()
}

// write makes one change. A failed change, such as a deadlock, is rolled back.
func (h *hostile) write(random *rand.Rand, writer, n int) {
	long := time.Duration(0)
	if writer == 0 || random.IntN(10) == 0 {
		long = 2 * h.margin
	}
	if !lab.IsPostgres(h.driver) && !lab.IsMariaDB(h.driver) {
		long = 0 // nobody else can write then
	}
	name := fmt.Sprintf("p%d_%d", writer, n)
	switch kind := random.IntN(10); {
	case kind < 3 && lab.IsPostgres(h.driver): // the second transaction begins after its now()
		h.autocommit(fmt.Sprintf(`begin; select pg_sleep(%f); commit; %s`, h.margin.Seconds()/4, h.update(random, "now()")))
	case kind < 3 && lab.IsMariaDB(h.driver): // it may wait for the lock of the row
		h.autocommit(h.update(random, "utc_timestamp(6)"))
	case kind < 5 && lab.IsPostgres(h.driver):
		h.inTransaction(random, long, "begin", `prepare transaction '`+name+`'`, `commit prepared '`+name+`'`)
	case kind < 5 && lab.IsMariaDB(h.driver):
		h.inTransaction(random, long, `xa start '`+name+`'`, `xa end '`+name+`'`, `xa prepare '`+name+`'`, `xa commit '`+name+`'`)
	case kind < 6:
		h.inTransaction(random, long, "begin", "rollback")
	case lab.IsPostgres(h.driver) || lab.IsMariaDB(h.driver):
		h.inTransaction(random, long, "begin", "commit")
	default:
		h.inTransaction(random, long, "begin immediate", "commit")
	}
}

// update changes a row that others change, too, or adds one.
func (h *hostile) update(random *rand.Rand, at string) string {
	if random.IntN(2) == 0 {
		return fmt.Sprintf(`insert into t values (%d, %s, 0)`, h.version.Add(1)+hotRows, at)
	}
	return fmt.Sprintf(`update t set at = %s, version = %d where id = %d`, at, h.version.Add(1), random.IntN(hotRows))
}

// autocommit runs one message in a separate transaction.
func (h *hostile) autocommit(message string) {
	if _, err := h.db.Exec(message); err == nil {
		h.commits.Add(1)
	}
}

// inTransaction changes rows between the first statement and the others. Their time is taken before the first
// statement or after it, by a clock that may lag.
func (h *hostile) inTransaction(random *rand.Rand, long time.Duration, begin string, end ...string) {
	conn, err := h.db.Connx(context.Background())
	if err != nil {
		return
	}
	defer conn.Close()
	run := func(statement string) bool {
		if err == nil {
			_, err = conn.ExecContext(context.Background(), statement)
		}
		return err == nil
	}
	taken := time.Now()
	stamp := taken.Add(-time.Duration(random.Int64N(int64(h.margin / 4))))
	run(begin)
	run(`select version from t where id = -1`)
	if time.Since(taken) > h.margin/2 { // the machine is busy, and the margin does not cover this time
		stamp = time.Now()
	}
	if random.IntN(2) == 0 {
		time.Sleep(time.Duration(random.Int64N(int64(10 * time.Millisecond))))
		stamp = time.Now()
	}
	run(h.update(random, h.literal(stamp)))
	if random.IntN(4) == 0 && begin == "begin" {
		run(`savepoint s`)
		run(h.update(random, h.literal(time.Now())))
		run(`rollback to savepoint s`)
		run(h.update(random, h.literal(stamp)))
	}
	time.Sleep(long)
	if begin == "begin immediate" && time.Since(stamp) > h.margin/2 {
		end = []string{"rollback"}
	}
	for i, statement := range end {
		if i > 0 { // it is prepared
			time.Sleep(time.Duration(random.Int64N(int64(h.margin))))
		}
		run(statement)
	}
	if err == nil {
		h.commits.Add(1)
		return
	}
	for _, statement := range []string{`rollback`, end[0], `xa rollback ` + strings.TrimPrefix(begin, "xa start ")} { // what fails, fails
		_, _ = conn.ExecContext(context.Background(), statement)
	}
}

// follower is a reader that keeps the last version of each row.
type follower struct {
	table    *sqlsource.Table
	cursor   source.Cursor
	versions map[string]string
}

func (f *follower) poll(t *testing.T) (b source.Batch[row.Row]) {
	b, err := f.table.Fetch(t.Context(), f.cursor, 100)
	require.NoError(t, err)
	if f.versions == nil {
		f.versions = map[string]string{}
	}
	for _, r := range b.Records {
		f.versions[r.Text(0)] = r.Text(2)
	}
	f.cursor = b.To
	return b
}

// drain reads until all rows are read.
func (f *follower) drain(t *testing.T) {
	lab.WaitFor(t, func() bool {
		b := f.poll(t)
		return b.Held == nil && !b.More && len(b.Records) == 0
	})
}

// lost returns how many rows do not have their last version.
func (f *follower) lost(t *testing.T, db *sqlx.DB) (n int) {
	var rows []struct{ ID, Version string }
	require.NoError(t, db.Select(&rows, `select id, version from t`))
	require.Greater(t, len(rows), hotRows)
	for _, r := range rows {
		if f.versions[r.ID] != r.Version {
			n++
		}
	}
	return n
}
