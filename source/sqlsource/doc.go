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
// Rows are delivered in the order of their key, each once, and a row with a key
// that was passed is never looked at again. So this is what "new" means here: a
// row whose key is greater than all keys read so far.
//
// Rows whose transactions commit after a higher key was read are missed, unless
// there is a single append-only writer. A sequence hands out 1 to one
// transaction and 2 to another; if the second commits first, a reader that sees
// 2 goes on behind it, and never sees 1. With a single writer that does one
// transaction after another, or a table that nobody writes to, nothing is
// missed. Updates of rows already read are not seen, nor are deletes.
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
// # Cursors
//
// A cursor holds the key of the last row, a fingerprint of the table or query,
// key and condition, and a checksum, in printable ASCII:
//
//	1;5f0c2a1b;i42;9d4e1c77
//
// One of another query, or a damaged one, is a permanent error. [Table.Describe]
// tells what a cursor means, [Table.At] makes one. The format has a version,
// so that later ones can say more.
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
// key has an index; EXPLAIN the statement if in doubt.
package sqlsource
