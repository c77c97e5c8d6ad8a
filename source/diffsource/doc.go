// Package diffsource finds the changes of any table or view by comparing passes over it: each
// row that is new, changed or gone since the last pass. It needs only the right to SELECT.
//
//	orders := &diffsource.Source{
//		Table: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}},
//		Dir:   "state/orders",
//		Every: time.Hour,
//	}
//	defer orders.Close()
//
// It is a source.Source of row.Change: a Poller delivers its changes to a sink and saves its
// cursor. The first pass delivers each row as an upsert. Later passes deliver inserts, updates and
// deletes, in the order of the keys.
//
// # What is guaranteed
//
// Every row that two passes see differently is delivered once, as it was when the later pass read it.
// So nothing is missed, however the table is written: after the changes of a pass the copy has each row as
// the pass has read it. Versions between two passes are not seen, nor is a row that was inserted and
// deleted between them. The changes have no time and no transaction.
//
// A batch whose cursor was not saved can be in the copy or not, if the sink stores the cursor apart from the records. After
// a restart its rows are compared with it, too: those that differ by then are upserts or deletes, also if the copy has them
// already. The first Fetch delivers nothing, so that a cursor is saved before the first row.
//
// A pass reads one batch after the other. A row whose key changes while it runs can be in the copy under both
// keys, or under none, until the next pass. With Source.Snapshot a pass reads all rows as of one moment.
// Batch.AsOf is the start of the last complete pass, by the clock of this machine: every change committed before it is
// delivered. A pass over a standby of Postgres has none, because a standby lags. A replica of MySQL or MariaDB is not
// recognised: there every change is delivered that the replica had applied at that time.
//
// A table that was emptied, restored or replaced is not an error: its differences are changes. A new
// column changes each row.
//
// # The state
//
// The state of a pass is a key and a digest for each row, in files in Source.Dir. It belongs to the
// checkpoint. A cursor whose state is missing is an error that wraps [ErrState]. Continue with an
// empty checkpoint: the first pass delivers each row as an upsert, but no deletes.
//
// # What it costs
//
// A pass reads the whole table by an index of its key, one to four times as slowly as COPY, and writes the
// state of all rows. Set Every accordingly. Memory is bounded, whatever the number of rows.
//
// # Comparing a copy
//
// [Comparison] compares a table with a copy in the same database or another one, and yields the changes
// that make the copy equal.
//
// DESIGN.md has the arguments, the limits and the measurements.
package diffsource
