// Package lease has leases, which make one of several replicas of a pipeline
// active. See [poller.Lease].
//
// [Heartbeat] keeps the lease in a database, or wherever a [poller.Checkpointer]
// keeps a cursor. Give it a separate Checkpointer:
//
//	beats, err := sqlcheckpoint.New(db, "orders lease", sqlcheckpoint.Options{History: 1})
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: sink, Checkpointer: checkpoint,
//		Lease: &lease.Heartbeat{Store: beats}}
//
// [File] locks a file, for replicas on one machine:
//
//	p.Lease = &lease.File{Path: "/var/lib/shop/orders.lock"}
//
// A lease is not a fence. If the active replica is paused and wakes up after
// another one has taken over, the compare-and-swap of its Checkpointer, or of its
// sink if that keeps the cursor, refuses its writes. A sink that stores
// records only, such as a webhook, may get one batch twice then.
package lease
