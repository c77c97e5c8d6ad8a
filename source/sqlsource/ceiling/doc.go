// Package ceiling decides how far a table can be read so that no row is missed.
//
// Rows do not commit in the order of their keys. A sequence hands 1 to one transaction and
// 2 to another. If the second commits first, a reader that remembers the greatest key it saw
// continues after 2 and never sees 1. A ceiling is a key below which that cannot happen any
// more, because no transaction in flight can still add a row there. A source that reads up to
// the ceiling, and no further, misses nothing.
//
// A [Ceiling] is a strategy for finding one. Package sqlsource chooses it automatically, logs
// in one line what is guaranteed and why, and ends with an [UnsafeError] where only a lossy
// ceiling is possible. To choose one explicitly, set the field Ceiling of a sqlsource.Table or
// Query:
//
//	orders.Ceiling = ceiling.Lag{By: 5 * time.Minute}
//
// The ceilings that miss nothing belong to a database, and are in its package: see the
// packages postgres, mysql and sqlite next to this one. This package holds those that work on
// any database. [Grace], [Lag] and [None] can miss rows, so they must be chosen explicitly.
//
// # Writing one
//
// A ceiling for another database, or for a promise that only you know of, is a type with two
// methods: see the example of [Ceiling]. [Fences] is the bookkeeping for a strategy that waits
// for transactions to end, [Progress] for one that reads up to integer keys. Report what you
// found about the table with [Report.Add]: each [Finding] carries its remedies as statements and
// words.
//
// # Updates and deletes
//
// With a key that is drawn once, a row is read once, as it is at that time. With a key that each
// change sets again, each row's latest version is read after each change. Versions in between are
// not seen. A DELETE leaves nothing to poll: make it an update that sets deleted_at, and delete
// the rows for real some days later.
//
// Why each ceiling is sound, what it assumes and what it costs is in DESIGN.md of package
// sqlsource.
package ceiling
