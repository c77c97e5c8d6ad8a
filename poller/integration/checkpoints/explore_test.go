package checkpoints

import (
	"context"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A pipeline from one table to another is crashed before and after every call, and every
// pair of calls. Each row is copied once.
func TestPipelineIsExactlyOnce(t *testing.T) {
	t.Parallel()
	limit := 60
	if testing.Short() {
		limit = 20
	}
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table numbers (id ` + lab.IDColumn(driver) + `, note varchar(10))`)
		db.MustExec(`insert into numbers (note) values ('a'), ('b'), ('c'), ('d'), ('e')`)
		createOrders(db, driver)
		machines := 0
		n, err := pollertest.Explore(t.Context(), pollertest.Exploration[checkpointedOrder]{
			Expected:    []checkpointedOrder{{1}, {2}, {3}, {4}, {5}},
			ExactlyOnce: true,
			Limit:       limit,
			New: func(context.Context) (pollertest.Machine[checkpointedOrder], error) {
				machines++
				name := fmt.Sprint("machine ", machines)
				_, err := db.Exec(`delete from orders`)
				return pollertest.Machine[checkpointedOrder]{
					Start: func(context.Context) (*poller.Poller[checkpointedOrder], error) {
						store, err := sqlcheckpoint.New(db, name, sqlcheckpoint.Options{})
						out := checkpointedOrders{store, db, commitTx}
						numbers := &sqlsource.Query[checkpointedOrder]{DB: db, Select: "select id from numbers", Key: []string{"id"}, Table: "numbers"}
						return &poller.Poller[checkpointedOrder]{Name: "test", Source: numbers, Sink: out, Checkpointer: out, BatchSize: 2}, err
					},
					Delivered: func(ctx context.Context) (all []checkpointedOrder, err error) {
						err = db.SelectContext(ctx, &all, `select id from orders order by place`)
						return all, err
					},
				}, err
			},
		})
		require.NoError(t, err)
		require.Greater(t, n, limit/2)
		t.Logf("%d scenarios", n)
	})
}

// The example's sink passes the sink test suite with every driver.
func TestCheckpointAdvanceConformance(t *testing.T) {
	eachCheckpointDriver(t, func(t *testing.T, d dbtest.Database, driver dbtest.Driver) {
		db := d.Open(t, driver)
		createOrders(db, driver)
		require.NoError(t, sinktest.TestSink(t.Context(), sinktest.Options[checkpointedOrder]{
			Open: func(context.Context) (sinktest.Opened[checkpointedOrder], error) {
				store, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
				s := checkpointedOrders{store, db, commitTx}
				return sinktest.Opened[checkpointedOrder]{Sink: s, Checkpointer: s}, err
			},
			Read: func(ctx context.Context) (all []checkpointedOrder, err error) {
				err = db.SelectContext(ctx, &all, `select id from orders order by place`)
				return all, err
			},
			Record: func(i int) checkpointedOrder { return checkpointedOrder{int64(i)} },
		}))
	})
}

// createOrders creates the table that checkpointedOrders writes to.
func createOrders(db *sqlx.DB, driver dbtest.Driver) {
	key := map[bool]string{true: "serial", false: "integer"}[lab.IsPostgres(driver)] + " primary key"
	if lab.IsMariaDB(driver) {
		key += " auto_increment"
	}
	db.MustExec(`create table orders (place ` + key + `, id int not null)`)
}
