// Package sqlcheckpoint keeps pipelines' cursors in a table of an SQL database:
// Postgres, MySQL, MariaDB or SQLite.
//
//	checkpoint, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: api, Checkpointer: checkpoint}
//
// For any sink that makes a pipeline deliver at least once. For a sink that
// writes to the same database, [Store.Advance] moves the cursor in the
// transaction that writes the rows, which is exactly once; its example has all
// that such a sink needs.
//
// # The table
//
// The first Load creates it if it is missing, called devotion_checkpoint unless
// Options says otherwise, with one row for each pipeline:
//
//	name      the pipeline
//	cur       its cursor
//	writer    token of the handle that stored it
//	seq       how often it has changed
//	saved_at  when, RFC 3339 in UTC
//	history   the cursors before, newest first, each a line: saved_at writer cur
//
// Where the role may not create tables, create it first, as an owner who runs
// [Store.Schema], and grant SELECT, INSERT and UPDATE.
//
// # Rewinding
//
// To read a range again, call [Store.Rewind], or in plain SQL
//
//	UPDATE devotion_checkpoint SET cur = '...', writer = 'anna' WHERE name = 'orders'
//
// with a writer that was not there before: it is what tells running pipelines
// that the cursor is no longer theirs, even if it is the one they would have
// stored. A running one ends with [poller.ErrConflict] at its next Save or
// Write; started again it goes on from the new cursor. [Store.History] has the
// cursors of before. A row deleted under a running pipeline is an error; a
// pipeline that starts without one starts from the beginning.
//
// A release reads the row that the one before it wrote, and the one after it, so
// it can be rolled back.
//
// # Lost connections
//
// Load and Save are statements of their own and hold no lock between them. In a
// transaction of the caller, Advance locks the pipeline's row to its end. If the
// network goes silent in the middle, the server keeps that lock until it notices.
// On Postgres Advance therefore limits how long this transaction may idle, to the
// deadline of its context. MariaDB knows such a limit only for the whole
// session, so it is the caller's to set: with go-sql-driver, put
// idle_write_transaction_timeout=60 (seconds) into the data source name. MySQL
// has none but wait_timeout.
package sqlcheckpoint
