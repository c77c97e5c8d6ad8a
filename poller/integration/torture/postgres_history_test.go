package torture

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// A sequence that is set back ends a running pipeline with an error that says so. It never
// continues silently.
func TestSequenceGoesBack(t *testing.T) {
	t.Parallel()
	notShort(t)
	server := startPostgres(t)
	for name, statement := range map[string]string{
		"TRUNCATE RESTART IDENTITY": `truncate orders restart identity`,
		"ALTER SEQUENCE RESTART":    `alter sequence orders_id_seq restart`,
		"setval":                    `select setval('orders_id_seq', 7)`,
		"recreated table":           `drop table orders;` + orders + `grant select on orders, orders_id_seq to reader`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.NewDatabase(t)
			db := open(t, d)
			db.MustExec(orders)
			restricted := selectOnly(t, d, db, `grant select on orders, orders_id_seq to reader`)
			err := runAndAlter(t, db, reader("lock fence", restricted, postgres.LockFence{}, "id").Source, statement)
			require.ErrorIs(t, err, sqlsource.ErrHistory)
		})
	}
}

// runAndAlter runs statements after the writers have written and the reader has read, and
// returns the error that ends the reader.
func runAndAlter(t *testing.T, db *sqlx.DB, s source.Source[row.Row], statements ...string) error {
	t.Helper()
	read := &counted{Source: s}
	_, _, err := (&hostile.Trial{
		Writers: hostile.Writers{DB: db.DB, Table: ordersTable, Rows: 5000, Hold: 100 * time.Millisecond, Seed: *seedFlag, Acts: soundActs(t, db)},
		Readers: []hostile.Reader{{Name: "ours", Source: read}},
		Background: func(ctx context.Context) error {
			<-ctx.Done() // the writers have ended; otherwise the keys could catch up before the next poll
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for read.rows.Load() == 0 {
				<-tick.C
			}
			for _, s := range statements {
				if _, err := db.Exec(s); err != nil {
					return err
				}
			}
			return nil
		},
	}).Run(t.Context())
	return err
}

// counted counts the rows that a source returns.
type counted struct {
	source.Source[row.Row]
	rows atomic.Int64
}

func (c *counted) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
	b, err := c.Source.Fetch(ctx, after, limit)
	c.rows.Add(int64(len(b.Records)))
	return b, err
}

// Unsafe tables are refused before the first row.
func TestPostgresRefused(t *testing.T) {
	t.Parallel()
	server := startPostgres(t)
	for name, c := range map[string]struct{ ddl, says string }{
		"cache 50":  {`create table orders (id bigserial primary key, token bigint); alter sequence orders_id_seq cache 50`, "CACHE 50"},
		"increment": {`create table orders (id bigserial primary key, token bigint); alter sequence orders_id_seq increment 2`, "INCREMENT"},
		"unlogged":  {`create unlogged table orders (id bigserial primary key, token bigint)`, "unlogged"},
		"no draw":   {`create table orders (id bigint primary key, token bigint)`, "sequence"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.NewDatabase(t)
			db := open(t, d)
			db.MustExec(c.ddl)
			restricted := selectOnly(t, d, db, `grant select on orders to reader`)
			_, err := reader("auto", restricted, nil, "id").Source.Fetch(t.Context(), "", 10)
			var unsafe *ceiling.UnsafeError
			require.ErrorAs(t, err, &unsafe)
			require.ErrorContains(t, err, c.says)
		})
	}
}
