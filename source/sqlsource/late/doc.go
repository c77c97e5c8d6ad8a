// Package late finds rows that appear below the cursor of a sqlsource.Table or
// sqlsource.Query: rows that reading by key has already passed, and so misses.
//
//	orders := &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}}
//	p := &poller.Poller[row.Row]{Source: &late.Source[row.Row]{Table: orders}, ...}
//
// A ceiling prevents such rows for writers that keep to its assumptions. It
// cannot see ids that clients make, ids drawn in an earlier transaction, a
// sequence that was set back, or a partition that is attached with rows in it.
//
// [Source] passes every batch on as it is and reports late rows: a line in the
// log, a callback, counters. It never delivers them, because they are out of
// order; rewind the pipeline for that. [Audit] counts the rows that a pipeline
// would miss, with the table's ceiling and without one, before there is one.
//
// A Source remembers the keys of the rows it passed on. Every half minute it reads
// the keys of that range again; one that it does not remember is late. Nothing is
// remembered across a restart or a rewind. A row that is deleted and added again is
// late if a check came in between. If the pool's connections lead to several servers,
// such as a primary and a standby, rows can be reported that are not late.
package late
