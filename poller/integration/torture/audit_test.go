package torture

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// No ceiling can guard against unsound acts, because the database gives no sign of them.
// Package late reports every missed row and no others.
func TestUnsoundIsFound(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t)
	multi := hostile.MultiRow.WithWeight(4)
	for name, acts := range map[string][]hostile.Act{
		"nextval in an earlier transaction": {multi, hostile.NextvalEarlier},
		"explicit low keys":                 {multi, hostile.LowKeys},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.NewDatabase(t)
			db := open(t, d)
			db.MustExec(orders)
			restricted := selectOnly(t, d, db, `grant select on orders to reader`)
			runAudited(t, "Postgres, unsound: "+name, db, restricted, postgres.LockFence{}, func(r *resumed) hostile.Writers {
				return hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Hold: 100 * time.Millisecond, Seed: *seedFlag, Acts: acts, Progress: pause(db, r, func() {})}
			})
		})
	}
	t.Run("setval backwards", func(t *testing.T) {
		t.Parallel()
		d := server.NewDatabase(t)
		db := open(t, d)
		db.MustExec(orders + `alter sequence orders_id_seq restart 1000000`)
		restricted := selectOnly(t, d, db, `grant select on orders to reader`) // without the right to read the sequence
		runAudited(t, "Postgres, unsound: setval backwards, unseen", db, restricted, postgres.LockFence{}, func(r *resumed) hostile.Writers {
			return hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Hold: 100 * time.Millisecond, Seed: *seedFlag, Acts: []hostile.Act{multi},
				Progress: pause(db, r, func() { db.MustExec(`select setval('orders_id_seq', 1)`) })}
		})
	})
	t.Run("partition attached with rows", func(t *testing.T) {
		t.Parallel()
		d := server.NewDatabase(t)
		db := open(t, d)
		db.MustExec(`create table orders (id bigserial, token bigint not null, part int not null default 0, primary key (id, part)) partition by list (part);
			create table orders0 partition of orders for values in (0);
			create table orders1 (like orders including defaults)`)
		restricted := selectOnly(t, d, db, `grant select on orders to reader`)
		// These rows get keys from the sequence like all others, but in a table that no
		// reader reads yet.
		aside := hostile.Act{Name: "into a table that is attached later", Do: func(ctx context.Context, x *hostile.Txn) error {
			return x.Exec(ctx, `insert into orders1 (token, part) values ($1, 1)`, x.Reserve(1))
		}}
		runAudited(t, "Postgres, unsound: partition attached with rows", db, restricted, postgres.LockFence{}, func(r *resumed) hostile.Writers {
			attach := pause(db, r, func() { db.MustExec(`alter table orders attach partition orders1 for values in (1)`) })
			return hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Hold: 100 * time.Millisecond, Seed: *seedFlag, Acts: []hostile.Act{multi, aside.WithWeight(0.5)}, Progress: attach}
		})
	})
}

func TestMariaDBUnsoundIsFound(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startMariaDB(t)
	d := server.NewDatabase(t)
	db := open(t, d)
	db.MustExec(ordersMariaDB)
	runAudited(t, "MariaDB, unsound: explicit low keys", db, selectOnlyMariaDB(t, d, db), mysql.DirtyProbe{}, func(r *resumed) hostile.Writers {
		return hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 20_000, Hold: 100 * time.Millisecond, Seed: *seedFlag,
			Acts: []hostile.Act{hostile.MultiRow.WithWeight(4), hostile.LowKeys}, Progress: pause(db, r, func() {})}
	})
}

// pause stops the writers half way until the reader has read all committed rows, and then
// calls f. Rows that f makes visible are then late for certain.
func pause(db *sqlx.DB, r *resumed, f func()) func(hostile.Counts) {
	var once sync.Once
	return func(c hostile.Counts) { // called between transactions
		if c.Committed < 10_000 {
			return
		}
		once.Do(func() {
			var last int64
			if err := db.Get(&last, `select max(id) from orders`); err != nil {
				panic(err)
			}
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for r.passed() < last {
				<-tick.C
			}
			f()
		})
	}
}

// runAudited runs a trial with a reader whose late rows are reported by package late, and
// requires a report of every missed row.
func runAudited(t *testing.T, scenario string, db, restricted *sqlx.DB, c ceiling.Ceiling, writers func(*resumed) hostile.Writers) {
	var mu sync.Mutex
	named, unnamed := map[string]bool{}, 0
	table := &sqlsource.Table{DB: restricted, Name: "orders", Key: []string{"id"}, Ceiling: c, Logger: slog.New(slog.DiscardHandler)}
	found := &resumed{Source: &late.Source[row.Row]{Table: table, Rows: 1_000_000, Every: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Report: func(_ context.Context, f late.Found) {
			mu.Lock()
			defer mu.Unlock()
			unnamed += f.Rows - len(f.Keys)
			for _, key := range f.Keys {
				named[strings.TrimPrefix(table.Position(key), "id ")] = true
			}
		}}}
	_, results := runTrial(t, scenario, hostile.Trial{
		Writers: writers(found),
		Readers: []hostile.Reader{naive(restricted, "id"), {Name: c.String(), Source: found, Key: []string{"id"}}},
	})
	missed := results[1]
	requireLoss(t, results[0])
	requireLoss(t, missed)
	require.Zero(t, missed.Duplicates+missed.OutOfOrder+missed.Phantom)

	want := map[string]bool{}
	for chunk := range slices.Chunk(missed.LostTokens, 1000) {
		query, args, err := sqlx.In(`select id from orders where token in (?)`, chunk)
		require.NoError(t, err)
		var ids []string
		require.NoError(t, db.Select(&ids, db.Rebind(query), args...))
		for _, id := range ids {
			want[id] = true
		}
	}
	deadline := time.Now().Add(time.Minute)
	for { // the next check finds the last rows
		found.fetch(t)
		mu.Lock()
		n := unnamed
		for id := range named {
			require.True(t, want[id], "row %s is reported, but was not missed", id)
			n++
		}
		mu.Unlock()
		if n == len(want) {
			break
		}
		require.True(t, time.Now().Before(deadline), "%d rows were missed, %d are reported", len(want), n)
	}
	t.Logf("%s: all %d missed rows were reported, %d of them without keys", scenario, len(want), unnamed)
	board.add(scenario, results...)
}

// resumed records the position of a source, so that a test can fetch more after the
// pipeline has ended.
type resumed struct {
	source.Source[row.Row]
	mu sync.Mutex
	at source.Cursor
	id int64 // id of the last row
}

func (r *resumed) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
	b, err := r.Source.Fetch(ctx, after, limit)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = b.To
	if n := len(b.Records); n > 0 && err == nil {
		id, _ := b.Records[n-1].Get("id")
		_, err = fmt.Sscan(id, &r.id)
	}
	return b, err
}

func (r *resumed) passed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

func (r *resumed) fetch(t *testing.T) {
	r.mu.Lock()
	at := r.at
	r.mu.Unlock()
	_, err := r.Fetch(t.Context(), at, 1000)
	require.NoError(t, err)
}
