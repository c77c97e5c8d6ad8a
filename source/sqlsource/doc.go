// Package sqlsource reads SQL databases by keyset polling: it asks for the rows
// whose key is greater than the last one read, in the order of the key, a batch
// at a time. It works with Postgres, MySQL, MariaDB and SQLite over sqlx.
//
// [Table] reads any table without knowing its columns; its records are of type
// [row.Row]. [Query] reads a SELECT into your structs. Both are a
// [source.Source].
//
//	orders := &sqlsource.Table{DB: db, Name: "public.orders", Key: []string{"id"}}
//
// # What is promised
//
// Every committed row is delivered, in the order of the key, each once. "New" is
// a row whose key is greater than all keys read so far, and rows are read only up
// to a ceiling: a key below which no transaction in flight can still add one.
// Without it a reader skips rows for ever: a sequence hands out 1 to one
// transaction and 2 to another; if the second commits first, a reader that sees 2
// goes on behind it, and never sees 1.
//
// The ceiling is chosen by the table; the first Fetch logs in one line what it
// guarantees and why. Where rows could be missed it returns a
// [ceiling.UnsafeError] instead, which lists the reasons and the statements to
// run, or the lossy ceilings that can be chosen by name. Package [ceiling] has the
// strategies, why each is sound, and what it assumes. While rows that exist cannot
// be delivered yet, [source.Batch].Held says since when and who holds them back:
// rows wait for the transactions that began beside them, so keep those short.
//
// Updates of rows already read are seen only if they move the row to a new key,
// and deletes never: package ceiling has the recipes.
//
// # Keys
//
// A key is one column or several, unique together, never NULL, never changed,
// and the first columns of an index in this order: a poll then costs the same
// however large the table is. Good keys are integers of 64 bits, signed or
// unsigned, numerics, text, uuids, timestamps with a number behind them to make
// them unique, dates and binary strings. All their precision is kept.
//
// Two rows of one key, and a NULL, are errors that name them; they would mean
// lost rows. Have a unique index and NOT NULL all the same. Equal keys may be
// written differently, "a" and "A" under a collation that ignores case, or the
// numerics 1.0 and 1.00: only the index rules those out. And whether a column may
// be NULL is asked once: to drop its NOT NULL below a running pipeline hides rows
// until it starts again. Text is compared by the column's collation, as the
// database does for the index. Do not change the collation, nor the library it
// comes from, below a pipeline that is running.
//
//   - Postgres: every type that has an order, but for composite types and those
//     of the catalog's names, such as regclass.
//   - MySQL, MariaDB: integers, DECIMAL, CHAR, VARCHAR and TEXT, their binary
//     kin, DATE, DATETIME, TIME, YEAR, UUID. A TIMESTAMP only if the session's
//     time zone is UTC, since others repeat an hour each year. Not ENUM, SET,
//     FLOAT, DOUBLE, BIT or JSON.
//   - SQLite: INTEGER, REAL, TEXT and BLOB values, also mixed, as SQLite sorts
//     them.
//
// # Cursors and histories
//
// A cursor holds the key of the last row, a fingerprint of the table or query,
// key and condition, what identifies the database's history, and a checksum, in
// printable ASCII:
//
//	2;5f0c2a1b;7301234567890123456/1/16384/16402@25034112;i42;9d4e1c77
//
// The history is, on Postgres, the cluster, timeline, database, table and, for
// the lock fence, the sequence's file, and how far the write-ahead log had come. A cursor of another query, of another
// server, of a table or a sequence that was made anew, or from before the database went back in
// time is a permanent error that says what happened ([ErrHistory] for all but the
// first). Go on with [Table.At], a key to read on from, or with [Table.Adopt], the
// same key in the history that is there. A table that was emptied, pruned or
// rebuilt goes on by itself. [Table.Describe] tells what a cursor means.
//
// Postgres may take back the last commits made with synchronous_commit = off when
// it crashes. So rows are delivered when the write-ahead log is on disk up to
// where it was when they were settled; that takes as long as the next commit of
// anybody, or wal_writer_delay, 200 ms, if a commit is what is not on disk. What
// else is written meanwhile, as by a transaction that then stays open, may stay in
// memory for much longer. So three times wal_writer_delay and a second, 1.6 s, are
// waited for at most: by then Postgres has each asynchronous commit on disk, unless
// the disk itself hangs.
//
// # Looking at a table
//
// [Table.Check] tells all there is to know before a pipeline runs, and beside one
// that does: what is guaranteed, what the probes found, the statement and its plan,
// how many rows are pending, who holds them back, and whether a cursor can be gone
// on from. It writes nothing, and prints itself for a terminal:
//
//	check, err := orders.Check(ctx, cursor)
//	...
//	fmt.Print(check)
//	if !check.Safe() {
//		os.Exit(1)
//	}
//
// # Columns that change
//
// A Table without Columns reads all there are. When a column is added, dropped,
// renamed or given another type, the next rows have new columns, and one line in
// the log says which. A value never appears under the name of another column:
// each result is compared with what is expected before it is read, and in
// SQLite the schema's version after it. For the same reason do not use pgx in
// its mode cache_describe, and modernc.org/sqlite not with _texttotime.
//
// A view or Select may hide from SQLite's planner, as from any other, that its
// key has an index. Check shows the plan, and the log warns of one that reads or
// sorts the whole table for each poll.
//
// # Rows that appear below the cursor
//
// A ceiling cannot see everything: ids that clients make or that were drawn in an
// earlier transaction, a sequence that was set back, a partition attached with rows
// in it. Such rows appear below the cursor, where no reading by key looks again.
// Package [late] finds and reports them.
//
// [late]: https://pkg.go.dev/github.com/artifactofdevotion/devotion/source/sqlsource/late
package sqlsource
