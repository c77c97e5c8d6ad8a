// Package sqlsink writes rows and changes into Postgres, MySQL, MariaDB or SQLite, exactly once.
//
//	orders, err := sqlsink.Upsert(db, "orders", "public.orders", sqlsink.Options{})
//	p := &poller.Poller[row.Row]{Name: "orders", Source: src, Sink: orders, Checkpointer: orders}
//
// [Insert] adds each row, and rejects one whose key exists. [Upsert] inserts or updates the row of
// the key. [Apply] applies the changes of any number of tables.
//
// A [Sink] moves the pipeline's cursor in the transaction that writes the rows, so both are stored
// or neither. If the answer to a COMMIT is lost, the next Write finds the cursor moved and writes
// nothing. The cursor is in a table of package sqlcheckpoint in the same database.
//
// # Columns
//
// Columns are matched by name. These are refused before the first row is written, by an error that names
// the column and that is not retried:
//
//   - a column of the source that the table lacks;
//   - a column of the table that is NOT NULL, has no default, and that the source lacks;
//   - a column whose type does not hold all values of the source's type: fewer digits, bits or
//     characters, no sign, or no time zone. A limit that the source does not state, as SQLite and
//     numeric do not, is checked value by value.
//
// Other columns of the table get their default. The database computes generated columns. A value
// for an identity column or for AUTO_INCREMENT is stored as it is, 0 too, and the sequence is not
// moved.
//
// With Options.Create a table that does not exist is created, and a column that the table lacks is
// added, each with the type that corresponds to the source's. A source that states no type, such as
// SQLite with a declared type that it does not know, gets text. A type that the target does not
// have gets text, too, and a time of day or a date outside of the target's range is rejected.
//
// # Values
//
// A value arrives unchanged or not at all: if the database would round it, cut it off or replace
// it, the record is rejected, by an error that names the column and not the value. These values
// change their form, because the database has no type for them:
//
//   - true and false are 1 and 0 in MySQL, MariaDB and SQLite;
//   - a point in time loses its Z in MySQL and MariaDB, and is in UTC. In a TIMESTAMP it is the same
//     moment;
//   - SQLite stores a decimal as text, and as a number in a column that converts it, if no digit
//     is lost.
//
// # Changes
//
// Apply folds the changes of a batch: for each key the last one counts, a moved key deletes the
// old row, and a Truncate deletes all rows. Changes of different tables stay in their order. If the
// folded changes violate a constraint, the batch is written again change by change. A value that a
// change does not have keeps the one in the table; if that row does not exist, the change is
// rejected. A key is identified by its text, so a source must write a key the same way each time.
//
// # Sessions
//
// Write uses one connection and sets it back afterwards. On MySQL and MariaDB it sets a strict
// sql_mode and utf8mb4. On Postgres and MariaDB a session that dies in a transaction ends at the
// deadline of ctx, and releases its locks; MySQL has no such limit. Behind a pooler in transaction
// mode Postgres works as sqlcheckpoint says.
package sqlsink
