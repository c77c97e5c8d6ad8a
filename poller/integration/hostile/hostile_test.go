package hostile

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// rec makes a Recorder that received rows, each a token and a key.
func rec(t *testing.T, rows ...[2]int64) *Recorder {
	b := row.NewBuilder(row.NewColumns([]string{"token", "id"}, nil), len(rows))
	for _, r := range rows {
		for i, cell := range b.Dest() {
			require.NoError(t, cell.(interface{ Scan(any) error }).Scan(r[i]))
		}
		b.Add()
	}
	r := &Recorder{Token: "token", Key: []string{"id"}}
	require.NoError(t, r.Write(t.Context(), source.Batch[row.Row]{Records: b.Rows()}))
	return r
}

// Every fault of a reader is detected.
func TestJudge(t *testing.T) {
	l := newLedger()
	l.spans = []span{{first: 1, n: 3, what: "multi-row"}, {first: 7, n: 1}, {first: 9, n: 2}}
	l.absent[7] = true
	l.count.Committed = 5
	for _, c := range []struct {
		name string
		rec  *Recorder
		want Result
	}{
		{"sound", rec(t, [2]int64{2, 1}, [2]int64{1, 2}, [2]int64{3, 3}, [2]int64{9, 5}, [2]int64{10, 6}), Result{Delivered: 5}},
		{"lost", rec(t, [2]int64{2, 1}, [2]int64{3, 3}, [2]int64{9, 5}), Result{Delivered: 3, Lost: 2, LostTokens: []int64{1, 10}}},
		{"twice", rec(t, [2]int64{1, 1}, [2]int64{2, 2}, [2]int64{3, 3}, [2]int64{9, 4}, [2]int64{10, 5}, [2]int64{9, 6}), Result{Delivered: 5, Duplicates: 1}},
		{"out of order", rec(t, [2]int64{1, 1}, [2]int64{2, 3}, [2]int64{3, 2}, [2]int64{9, 5}, [2]int64{10, 6}), Result{Delivered: 5, OutOfOrder: 1}},
		{"one key twice", rec(t, [2]int64{1, 1}, [2]int64{2, 3}, [2]int64{3, 3}, [2]int64{9, 5}, [2]int64{10, 6}), Result{Delivered: 5, OutOfOrder: 1}},
		{"rolled back", rec(t, [2]int64{1, 1}, [2]int64{2, 2}, [2]int64{3, 3}, [2]int64{4, 4}, [2]int64{9, 5}, [2]int64{10, 6}), Result{Delivered: 5, Phantom: 1}},
		{"taken back", rec(t, [2]int64{1, 1}, [2]int64{2, 2}, [2]int64{3, 3}, [2]int64{7, 4}, [2]int64{9, 5}, [2]int64{10, 6}), Result{Delivered: 5, Phantom: 1}},
	} {
		got := l.Judge(c.name, c.rec, nil)
		assert.Equal(t, c.name == "sound", got.Sound(), c.name)
		c.want.Reader, c.want.Committed, c.want.Delay = c.name, 5, got.Delay
		assert.Equal(t, c.want, got)
	}
	l.deleted[1] = true
	assert.True(t, l.Judge("deleted", rec(t, [2]int64{2, 1}, [2]int64{3, 3}, [2]int64{9, 5}, [2]int64{10, 6}), nil).Sound(), "a deleted row need not be delivered")
	assert.Contains(t, l.Describe(2), "multi-row")
	assert.Contains(t, l.Describe(4), "not committed")
}

func TestDelays(t *testing.T) {
	l := newLedger()
	at := time.Now()
	l.spans = []span{{first: 1, n: 2, at: at}}
	a, b := rec(t, [2]int64{1, 1}, [2]int64{2, 2}), rec(t, [2]int64{1, 1}, [2]int64{2, 2})
	a.first[1], a.first[2] = at.Add(-time.Second), at.Add(time.Second) // the first row is delivered before its commit is confirmed
	b.first[1], b.first[2] = at.Add(time.Second), at.Add(4*time.Second)
	assert.Equal(t, Quantiles{time.Second, time.Second}, l.Judge("a", a, a).Delay)
	assert.Equal(t, Quantiles{}, l.Judge("a", a, a).AddedDelay)
	assert.Equal(t, Quantiles{3 * time.Second, 3 * time.Second}, l.Judge("b", b, a).AddedDelay)
}

// eachDatabase runs f on an empty table of each kind of database.
func eachDatabase(t *testing.T, f func(t *testing.T, db *sqlx.DB)) {
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
		db.MustExec(`create table orders (id bigserial primary key, token bigint unique, note text not null default '')`)
		f(t, db)
	})
	t.Run("MariaDB", func(t *testing.T) {
		t.Parallel()
		db := dbtest.MariaDB(t).NewDatabase(t).Open(t, dbtest.MySQL)
		db.MustExec(`create table orders (id bigint auto_increment primary key, token bigint unique, note varchar(20) not null default '')`)
		f(t, db)
	})
}

// Run compares the ledger with the table after each act.
func TestEveryAct(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB) {
		acts, err := Common(db.DB)
		require.NoError(t, err)
		acts = append(acts, DeleteNewest, DeleteAny, LowKeys, Upsert(1000))
		if db.DriverName() == "pgx" {
			acts = append(acts, NextvalEarlier)
		}
		for i := range acts {
			acts[i].Weight = 1 // each is drawn some 30 times: with fewer, a run may draw none
		}
		w := Writers{DB: db.DB, Table: Table{Name: "orders", Key: "id", Token: "token"}, Rows: 4000, Writers: 8, Hold: 20 * time.Millisecond,
			Acts: acts, Prefill: 1000, Rollbacks: 0.2, Prepared: 0.2, Seed: 1}
		l, err := w.Run(t.Context())
		require.NoError(t, err)
		for _, a := range acts {
			assert.Positive(t, l.Acts()[a.Name], a.Name)
		}
		c := l.Counts()
		var there int
		require.NoError(t, db.Get(&there, `select count(*) from orders`))
		assert.Equal(t, there, c.Committed-c.Deleted)
		assert.GreaterOrEqual(t, c.Committed, 5000)
		assert.Positive(t, c.RolledBack)
		assert.Positive(t, c.Prepared)
		assert.Zero(t, c.Unknown)
	})
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table orders (id bigserial primary key, token bigint unique)`)
	w := Writers{DB: db.DB, Table: Table{Name: "orders", Key: "id", Token: "token"}, Rows: 2000, Writers: 8, Hold: 20 * time.Millisecond,
		Acts: []Act{MultiRow.WithWeight(4), Truncate}, Rollbacks: 0.2, Prepared: 0.2, Seed: 1}
	l, err := w.Run(t.Context())
	require.NoError(t, err)
	assert.Positive(t, l.Acts()["truncate"])
	assert.Positive(t, l.Counts().Deleted)
}

// An act that inserts other rows than it reserved is detected.
func TestDishonestActs(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB) {
		table := Table{Name: "orders", Key: "id", Token: "token"}
		for name, act := range map[string]func(ctx context.Context, x *Txn) error{
			"did not commit": func(ctx context.Context, x *Txn) error { // keeps rows that it reports as rolled back
				err := x.Savepoint(ctx, func() (bool, error) { return false, x.insert(ctx, 1) })
				x.spans = x.spans[:len(x.spans)-1]
				return err
			},
			"without a token": func(ctx context.Context, x *Txn) error {
				return x.Exec(ctx, "insert into orders (token) values (null)")
			},
			"on purpose": func(context.Context, *Txn) error { return errors.New("on purpose") },
		} {
			db.MustExec(`delete from orders`)
			// Limited by rows and not by time, so that every act has run.
			w := Writers{DB: db.DB, Table: table, Rows: 500, Writers: 2, Hold: -1, Acts: []Act{MultiRow, {Name: name, Do: act}}}
			_, err := w.Run(t.Context())
			assert.ErrorContains(t, err, name)
		}
	})
}

func TestBadWriters(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t).Open(t, dbtest.Modernc)
	table := Table{Name: "orders", Key: "id", Token: "token"}
	for _, w := range []Writers{{}, {DB: db.DB}, {DB: db.DB, Rows: 1}, {DB: db.DB, Rows: 1, Table: table}} {
		_, err := w.Run(t.Context())
		assert.Error(t, err)
	}
}

// Writers that would write nothing, or never commit, are rejected.
func TestWritersAreChecked(t *testing.T) {
	none := Act{Name: "none"}
	for what, w := range map[string]Writers{
		"is negative":             {Writers: -1},
		"Prefill":                 {Prefill: -1},
		"Rollbacks must be below": {Rollbacks: 1},
		"at most 1":               {Rollbacks: 0.5, Prepared: 0.6},
		"Acts is empty":           {Acts: []Act{}},
		`act "none"`:              {Acts: []Act{none}},
		`act "multi-row"`:         {Acts: []Act{MultiRow.WithWeight(-1)}},
	} {
		w.DB, w.Rows, w.Table = new(sql.DB), 1, Table{Name: "t", Key: "id", Token: "token"}
		_, err := w.Run(t.Context())
		require.ErrorContains(t, err, what)
	}
}
