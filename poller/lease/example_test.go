package lease_test

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/lease"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
)

// Any number of processes may run this. The lease is kept next to the checkpoint. Its
// pool has a separate connection, so that no query of the pipeline delays a beat.
func ExampleHeartbeat() {
	run := func(ctx context.Context, driver, dsn string, src source.Source[int], api sink.Sink[int]) error {
		db, err := sqlx.Open(driver, dsn)
		if err != nil {
			return err
		}
		defer db.Close()
		pool, err := sqlx.Open(driver, dsn)
		if err != nil {
			return err
		}
		defer pool.Close()
		pool.SetMaxOpenConns(1)
		checkpoint, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
		if err != nil {
			return err
		}
		beats, err := sqlcheckpoint.New(pool, "orders lease", sqlcheckpoint.Options{History: 1})
		if err != nil {
			return err
		}
		p := &poller.Poller[int]{Name: "orders", Source: src, Sink: api, Checkpointer: checkpoint, Lease: &lease.Heartbeat{Store: beats}}
		return p.Run(ctx)
	}
	_ = run
}

// While one replica is active, another one is told which.
func ExampleHeartbeat_Hold() {
	var store sinktest.Checkpoint
	first := &lease.Heartbeat{Store: store.Open(), Name: "web-1"}
	second := &lease.Heartbeat{Store: store.Open(), Name: "web-2"}
	never := func(context.Context) error { return nil }
	err := first.Hold(context.Background(), func(ctx context.Context) error {
		return second.Hold(ctx, never)
	})
	fmt.Println(err)
	// Output: lease: another replica is active: "web-1"
}
