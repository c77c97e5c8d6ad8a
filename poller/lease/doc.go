// Package lease has leases, which make one of several replicas of a pipeline
// active. See [poller.Lease].
//
// [Heartbeat] keeps the lease in a database, or wherever a [poller.Checkpointer]
// keeps a cursor. Give it a separate Checkpointer, with another name, and a
// separate pool of connections:
//
//	beats, err := sqlcheckpoint.New(pool, "orders lease", sqlcheckpoint.Options{History: 1})
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: sink, Checkpointer: checkpoint,
//		Lease: &lease.Heartbeat{Store: beats}}
//
// In the pool of the pipeline a beat waits for a free connection. If all are in use
// for longer than TTL, for example one connection by one long query, the lease is lost
// and the query is cancelled, at each attempt again.
//
// [File] locks a file, for replicas on one machine:
//
//	p.Lease = &lease.File{Path: "/var/lib/shop/orders.lock"}
//
// A standby makes no step, but it has opened what its Poller is made of. What only one
// process may open keeps it from starting: deadletter.Open and filesink.Open lock
// their directories, so give each replica separate directories.
//
// A lease is not a fence. If the active replica is paused and wakes up after
// another one has taken over, the compare-and-swap of its Checkpointer, or of its
// sink if that keeps the cursor, refuses its writes. A sink that stores
// records only, such as a webhook, may get one batch twice then.
package lease
