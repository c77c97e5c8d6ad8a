package ceilings

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// watermark is the ceiling of the example of ceiling.Ceiling: the writers record up to
// which key all rows are committed.
type watermark struct{}

func (watermark) String() string { return "watermark" }

func (w watermark) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return w, nil
}

func (w watermark) Report() ceiling.Report {
	return ceiling.Report{Strategy: w.String(), Guarantee: "every row up to the writers' watermark is read"}
}

func (watermark) Advance(ctx context.Context, db ceiling.Queryer, _ []string) (ceiling.Limit, error) {
	at := time.Now()
	var done, top int64
	if err := db.QueryRowContext(ctx, "SELECT done, (SELECT coalesce(max(id), 0) FROM items) FROM progress").Scan(&done, &top); err != nil {
		return ceiling.Limit{}, err
	}
	l := ceiling.Limit{Where: "t.id <= ?", Args: []any{done}}
	if top > done {
		l.Held = &source.Held{Since: at, By: []string{"the writers' watermark"}}
	}
	return l, nil
}

// delivered is a sink that keeps all rows.
type delivered struct {
	mu   sync.Mutex
	rows []row.Row
}

func (d *delivered) Write(_ context.Context, b source.Batch[row.Row]) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = append(d.rows, b.Records...)
	return nil
}

func (d *delivered) poller(table *sqlsource.Table) *poller.Poller[row.Row] {
	return &poller.Poller[row.Row]{
		Name: "test", Source: table, Checkpointer: new(pollertest.Checkpointer), Sink: sink.Func[row.Row](d.Write),
		BatchSize: 7, Interval: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
}

// A custom ceiling works with a Poller. Concurrent jobs write explicit keys in any order,
// and then record how far they are. The same reader without the ceiling must lose rows.
func TestCustomCeiling(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 1))
		defer func() {
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		}()
		db.MustExec(`create table items (id bigint primary key, v varchar(10))`)
		db.MustExec(`create table progress (done bigint not null)`)
		db.MustExec(`insert into progress values (0)`)
		guarded, naive := lab.Silent(db, "items", "id"), lab.Silent(db, "items", "id")
		guarded.Ceiling, naive.Ceiling = watermark{}, ceiling.None{}
		var good, bad delivered
		stop := lab.Start(t, good.poller(guarded))
		stopBad := lab.Start(t, bad.poller(naive))
		const jobs, each = 12, 10
		for job := range jobs {
			ids := random.Perm(each)
			for i, id := range ids {
				db.MustExec(fmt.Sprintf(`insert into items values (%d, 'x')`, job*each+id+1))
				if i == each/2 { // in the middle, when both readers have polled
					from := bad.waitForLatest(t, naive)
					require.Positive(t, from)
				}
			}
			db.MustExec(fmt.Sprintf(`update progress set done = %d`, (job+1)*each))
		}
		require.Eventually(t, func() bool { return good.len() >= jobs*each }, lab.WaitLimit, 5*time.Millisecond)
		err := stop()
		require.NoError(t, err)
		err = stopBad()
		require.NoError(t, err)
		var want []int
		for id := range jobs * each {
			want = append(want, id+1)
		}
		require.Equal(t, want, good.ids())
		require.Less(t, bad.len(), jobs*each, "the reader without the ceiling must lose rows, or the test shows nothing")
	})
}

func (d *delivered) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.rows)
}

func (d *delivered) ids() (all []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rows {
		text, _ := r.Get("id")
		n, _ := strconv.Atoi(text)
		all = append(all, n)
	}
	return all
}

// waitForLatest waits until the row with the greatest key was delivered, and returns its
// id.
func (d *delivered) waitForLatest(t *testing.T, table *sqlsource.Table) (top int) {
	t.Helper()
	require.NoError(t, table.DB.Get(&top, `select max(id) from `+table.Name))
	require.Eventually(t, func() bool { return slices.Contains(d.ids(), top) }, lab.WaitLimit, 2*time.Millisecond)
	return top
}

// With the version column that SingleWriter's documentation describes, each change delivers
// the row again: the last delivered version of each row equals the table.
func TestSQLiteUpdates(t *testing.T) {
	eachSQLiteDriver(t, func(t *testing.T, db *sqlx.DB, _ string) {
		seed := rand.Uint64()
		defer func() {
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		}()
		db.MustExec(`create table orders (id integer primary key, v text not null)`)
		db.MustExec(`insert into orders (id, v) values (3, 'old'), (5, 'old')`)
		db.MustExec(versionRecipe)
		table := lab.Silent(db, "orders", "version")
		table.Ceiling = sqlite.SingleWriter{}
		var out delivered
		stop := lab.Start(t, out.poller(table))
		steps := 60
		if testing.Short() {
			steps = 20
		}
		var writers sync.WaitGroup
		for w := range 4 {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			writers.Go(func() {
				for i := range steps {
					v, id := fmt.Sprint(w, " ", i), random.IntN(8)
					tx, err := db.Beginx()
					if err != nil {
						continue
					}
					statements := []string{
						fmt.Sprintf(`insert into orders (v) values ('%s')`, v),
						fmt.Sprintf(`update orders set v = '%s' where id = %d`, v, id),
						fmt.Sprintf(`update orders set v = '%s' where id %% 3 = 0`, v),
						fmt.Sprintf(`insert or replace into orders (id, v) values (%d, '%s')`, id, v),
						fmt.Sprintf(`insert into orders (id, v) values (%d, '%s') on conflict (id) do update set v = excluded.v`, id, v),
					}
					for range 1 + random.IntN(3) {
						if _, err = tx.Exec(statements[random.IntN(len(statements))]); err != nil {
							break
						}
					}
					if err != nil || random.IntN(5) == 0 {
						_ = tx.Rollback()
						continue
					}
					_ = tx.Commit()
				}
			})
		}
		writers.Wait()
		type version struct {
			ID int64
			V  string
		}
		var want []version
		require.NoError(t, db.Select(&want, `select id, v from orders order by id`))
		require.Greater(t, len(want), 8)
		latest := func() (all []version) {
			out.mu.Lock()
			defer out.mu.Unlock()
			last := map[int64]string{}
			for _, r := range out.rows {
				id, _ := r.Get("id")
				v, _ := r.Get("v")
				n, _ := strconv.ParseInt(id, 10, 64)
				last[n] = v
			}
			for id, v := range last {
				all = append(all, version{id, v})
			}
			slices.SortFunc(all, func(a, b version) int { return int(a.ID - b.ID) })
			return all
		}
		require.Eventually(t, func() bool { return slices.Equal(latest(), want) }, lab.WaitLimit, 10*time.Millisecond)
		err := stop()
		require.NoError(t, err)
		t.Logf("%d rows, %d versions delivered", len(want), out.len())
	})
}

const versionRecipe = `
BEGIN IMMEDIATE;
ALTER TABLE orders ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
UPDATE orders SET version = rowid;
CREATE UNIQUE INDEX orders_version ON orders (version);
CREATE TABLE orders_counter (last INTEGER NOT NULL);
INSERT INTO orders_counter SELECT coalesce(max(version), 0) FROM orders;
CREATE TRIGGER orders_added AFTER INSERT ON orders BEGIN
	UPDATE orders_counter SET last = last + 1;
	UPDATE orders SET version = (SELECT last FROM orders_counter) WHERE rowid = NEW.rowid;
END;
CREATE TRIGGER orders_changed AFTER UPDATE ON orders WHEN NEW.version = OLD.version BEGIN
	UPDATE orders_counter SET last = last + 1;
	UPDATE orders SET version = (SELECT last FROM orders_counter) WHERE rowid = NEW.rowid;
END;
COMMIT;
`

// upTo is a ceiling that reads up to a cursor.
type upTo struct{ cursor source.Cursor }

func (upTo) String() string { return "up-to" }

func (u upTo) Open(context.Context, ceiling.Queryer, ceiling.Table) (ceiling.Guard, error) {
	return u, nil
}

func (u upTo) Report() ceiling.Report {
	return ceiling.Report{Strategy: u.String(), Guarantee: "rows are read up to a cursor"}
}

func (u upTo) Advance(context.Context, ceiling.Queryer, []string) (ceiling.Limit, error) {
	return ceiling.Limit{UpTo: u.cursor, Where: "t.v <> ?", Args: []any{"z"}}, nil
}

// A limit may be a cursor, together with a condition. The one before the first row lets no row
// pass, and one of another source is an error.
func TestLimitUpTo(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, _ dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table items (a int not null, b int not null, v varchar(9), primary key (a, b))`)
		db.MustExec(`insert into items values (1, 1, 'x'), (1, 2, 'z'), (2, 1, 'y'), (2, 2, 'x'), (3, 1, 'x')`)
		table := func(key ...any) *sqlsource.Table {
			table := lab.Silent(db, "items", "a", "b")
			cursor, err := table.At(key...)
			require.NoError(t, err)
			table.Ceiling = upTo{cursor}
			return table
		}
		pair := func(r row.Row) string { return r.Text(0) + r.Text(1) }
		got, _ := lab.ReadAll(t, table(2, 1), "", 1, pair)
		require.Equal(t, []string{"11", "21"}, got)
		got, at := lab.ReadAll(t, table(), "", 1, pair)
		require.Empty(t, got)
		c, err := table().Check(t.Context(), at)
		require.NoError(t, err)
		require.Equal(t, 5, c.Pending)
		other := table(2, 1)
		other.Where = "t.v <> 'q'"
		_, err = other.Fetch(t.Context(), "", 1)
		lab.RequirePermanent(t, err, "of another query")
	})
}
