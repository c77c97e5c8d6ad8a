// Package ceiling decides how far a table can be read so that no row is missed.
//
// Rows do not commit in the order of their keys. A sequence hands 1 to one transaction and
// 2 to another. If the second commits first, a reader that remembers the greatest key it saw
// continues after 2 and never sees 1. A ceiling is a key below which no transaction in flight
// can still add a row. A source that reads up to it, and no further, misses nothing.
//
// A [Ceiling] is a strategy for finding one. Package sqlsource chooses it automatically, logs
// in one line what is guaranteed and why, and ends with an [UnsafeError] where only a lossy
// ceiling is possible. Those that miss nothing are in the packages postgres, mysql and sqlite
// next to this one. This package has the ones for any database: [Grace], [Stamp] and [None]. They
// can miss rows, so they must be chosen explicitly, by the field Ceiling of a sqlsource.Table or
// Query:
//
//	orders.Ceiling = ceiling.Stamp{Margin: 30 * time.Second}
//
// A ceiling for another database, or for a promise that only you know of, is a type with two
// methods: see the example of [Ceiling]. [Fences] is the bookkeeping for a strategy that waits
// for transactions to end, [Progress] for one that reads up to integer keys. [Report.Add] reports
// a fact about the table: each [Finding] has its remedies as statements and words. [OtherMeans] are
// those for a table that its key cannot be read by.
//
// With a key that is drawn once, a row is read once, as it is at that time. With a key that each
// change sets again, each row's latest version is read after each change. Versions in between are
// not seen. A DELETE leaves nothing to poll: make it an update that sets deleted_at, and delete
// the rows for real some days later.
//
// DESIGN-ceilings.md of package sqlsource has the proof, the assumptions and the price of each ceiling.
package ceiling
