// Package snapshot reads all rows of one table, or of many tables and views, as of one moment.
//
//	orders := &snapshot.Rows{Options: snapshot.Options{DB: db}, Table: snapshot.Table{Name: "orders"}}
//	defer orders.Close()
//	batch, err := orders.Fetch(ctx, "", 1000)      // begins the transaction
//	batch, err = orders.Fetch(ctx, batch.To, 1000) // and on, until source.ErrEnd
//
// [Rows] reads one table or view, [Changes] reads many with the names of their tables. Both are a
// [source.Source]. Any table can be read: it needs no key, ceiling or order, and only the right to SELECT. For
// rows that are added later use package sqlsource.
//
// # What is guaranteed
//
// All statements run in one transaction that only reads, on one connection: REPEATABLE READ in
// Postgres, START TRANSACTION WITH CONSISTENT SNAPSHOT in MariaDB and MySQL, one read transaction in SQLite.
// So all rows of all tables are as of the moment at which it began, whatever is written later. In MariaDB and MySQL
// tables of engines without transactions, such as MyISAM, are not part of that moment, and neither are foreign tables in
// Postgres: the guarantee names them. It does not see what is behind a view.
//
// The AsOf of the last batch is that moment, by the clock of this machine. A snapshot that was interrupted, or of a standby of
// Postgres, which lags, has none. A replica of MariaDB or MySQL is not recognised: its rows are those that it had applied by then.
//
// # How rows are read
//
// A table is read by its primary key, or by a unique index of columns that are NOT NULL, a batch at a time. A table
// without either, a view without [Table.Key] and a SELECT are read by one statement, whose result stays open
// from Fetch to Fetch. A row that cannot be read is a [*source.BadRecord].
//
// # When it is interrupted
//
// A transaction ends with its connection, and with the process. The next Fetch with the last cursor begins
// another one, and continues after the last row, with a warning. The rows before are then as of the first moment, and those after
// it as of the second: [source.Batch].Guarantee says so. No row is missed that exists at both moments, unless its
// key was changed between them. Rows that are read by one statement are read again up to the cursor, and compared by a digest.
// If they are no longer the same, the whole table is read again: no row is missed, but rows can be delivered
// twice. Options.Strict makes an interruption an error instead.
//
// # What it costs
//
// A long transaction keeps old versions of rows: Postgres cannot vacuum them, MariaDB keeps its undo log, and the WAL file of
// SQLite grows. In Postgres each table is locked against ALTER, DROP and TRUNCATE until Close.
package snapshot
