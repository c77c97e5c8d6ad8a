// Package changelog delivers every insert, update and delete of a table. Triggers record
// the changes in a change table, in the same transaction, and package sqlsource reads it.
//
//	orders := &changelog.Table{DB: db, Name: "public.orders", Load: true}
//	script, err := orders.Script(ctx)          // the statements for the table's owner
//	err = script.Run(ctx, owner)               // or print them
//	batch, err := orders.Fetch(ctx, "", 1000)  // the existing rows, then all changes
//	n, err := orders.Prune(ctx, nil, saved)    // delete what every reader has saved
//
// It works with Postgres, MariaDB, MySQL and SQLite, and needs a key. [Table] is a
// [source.Source] of [row.Change].
//
// # What is guaranteed
//
// Every committed change is delivered once, and the changes of each key in their order. An
// update that changes the key has the old key in Old. On SQLite inserts and updates are
// Upserts. With KeysOnly the row is delivered as it is when it is read: versions in between may
// be missing. That also holds for changes that were not read before a column was added, renamed
// or given another type. Each batch carries the guarantee in words. It names the changes that
// a trigger of the database does not see, such as an attached partition. Change.Transaction is
// empty, because the changes of concurrent transactions alternate.
//
// # What is installed
//
// [Table.Script] returns the statements: a change table with two typed columns for each
// column of the table, and triggers. Names that are taken are not used. The statements
// of applications work as before, also after ALTER TABLE and before the script has run
// again; writers need no rights on the change table. SQLite refuses to drop a column that
// is recorded: name it in Omit and run the script first. One thing differs: on Postgres,
// lastval() returns the number of the change. Use RETURNING or currval. On MariaDB, a
// write under LOCK TABLES can fail with error 1442, and all writes fail if the user that ran
// the script is dropped.
//
// After each batch Fetch compares the installation with the table's present columns. If
// they differ, it returns an [InstallError] with the script that fixes it, and no record.
// When changes may be missing, as after a trigger was dropped, the error wraps [ErrGap],
// also after the script has run.
//
// # Rights
//
// The script is run by the table's owner. [Table.Grants] returns the rights of the reader,
// and those of the role that prunes.
//
// DESIGN.md next to this package has the argument for the guarantee, and the limits.
package changelog
