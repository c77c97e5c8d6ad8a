// Package ceiling decides how far a table can be read so that no row is missed.
//
// Rows do not commit in the order of their keys. A sequence hands 1 to one
// transaction and 2 to another; if the second commits first, a reader that
// remembers the greatest key it saw goes on behind 2, and never sees 1. A
// ceiling is a key below which that cannot happen any more: no transaction in
// flight can still add a row there. A source that reads up to it, and no
// further, misses nothing.
//
// A [Ceiling] is a way to find one. Package sqlsource picks it by itself, says
// in one log line what is guaranteed and why, and ends with an [UnsafeError]
// where only a lossy one is possible. To choose it, set the field Ceiling of a
// sqlsource.Table or Query:
//
//	orders.Ceiling = ceiling.LockFence{}
//
// A strategy for another database, or for a promise that only you know of, is
// two methods of your own; the example of [Ceiling] shows one.
package ceiling
