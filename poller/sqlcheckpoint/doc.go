// Package sqlcheckpoint keeps pipelines' cursors in a table of an SQL database:
// Postgres, MySQL, MariaDB or SQLite.
//
//	checkpoint, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: api, Checkpointer: checkpoint}
//
// With a sink that writes elsewhere the pipeline delivers at least once. A sink
// that writes to the same database calls [Store.Advance], which moves the cursor
// in the transaction that writes the rows, and delivers exactly once. The example
// of Advance is a complete sink.
//
// # The table
//
// The first Load creates the table if it does not exist. Its name is
// devotion_checkpoint unless Options.Table is set. It has one row per pipeline:
//
//	name      the pipeline
//	cur       its cursor
//	writer    token of the handle that stored it
//	seq       how often it has changed
//	saved_at  when it changed last, RFC 3339 in UTC
//	history   earlier cursors, newest first, one per line: saved_at writer cur
//
// If the role may not create tables, run the statement of [Store.Schema] as the
// owner, and grant SELECT, INSERT and UPDATE.
//
// A row can also hold the lease by which one of several replicas of a pipeline is
// active, see package lease.
//
// # Rewinding
//
// To read a range again, call [Store.Rewind], or in plain SQL
//
//	UPDATE devotion_checkpoint SET cur = '...', writer = 'anna' WHERE name = 'orders'
//
// with a writer that was not used before. A running pipeline recognizes by the
// new writer that the cursor was moved, even if it is the one it would store
// next. It ends with poller.ErrConflict at its next Save or Write. Started again,
// it goes on from the new cursor. [Store.History] returns earlier cursors. If the
// row is deleted while a pipeline runs, that is an error. A pipeline that starts
// without a row starts from the beginning, so stop the pipeline before you insert
// the row again: a supervisor could restart it in between.
//
// A release can read rows of the release before it and the release after it, so
// it can be rolled back.
//
// # Lost connections
//
// Load and Save are single statements and hold no lock. Advance locks the
// pipeline's row until the caller's transaction ends. If the network fails
// silently during the transaction, the server keeps that lock until it notices.
// On Postgres, Advance therefore limits how long the transaction may be idle to
// the deadline of its context. MariaDB has such a limit for the whole session
// only, so the caller must set it: with go-sql-driver, add
// idle_write_transaction_timeout=60 (seconds) to the data source name. MySQL has
// only wait_timeout.
//
// # Poolers
//
// Load, Save and Rewind work behind PgBouncer in each of its modes, with pgx and lib/pq. Advance
// works in session and transaction mode. In transaction mode pgx needs
// default_query_exec_mode=exec in the data source name, because the driver prepares the statements
// of the caller's transaction by name.
package sqlcheckpoint
