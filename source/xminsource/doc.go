// Package xminsource captures inserts and updates of a Postgres table with SELECT only.
//
//	orders := &xminsource.Source{DB: db, Name: "orders", Key: []string{"id"}}
//	p := &poller.Poller[row.Change]{Source: orders, Sink: sink, ...}
//
// Postgres keeps with each row version the id of the transaction that wrote it, in the hidden
// column xmin. A [Source] reads the table in passes. A pass delivers the versions that were
// written by the transactions from X0 to X1, in the order of the key. X1 is the oldest transaction
// that was running before the pass, so that all transactions below it had ended. The next pass
// begins where this one ended: its X0 is this X1. The first pass delivers all existing rows.
//
// Nothing must be added to the table: no trigger, no column, no slot. It works with any key, on
// standbys, on partitioned tables, on subscribers of logical replication and on materialized views.
// A poll reads the whole table once, at about a tenth of the cost of COPY, unless the cluster has
// given out no transaction id since the last one.
//
// Each change is an Upsert. A version that is overwritten before a pass reads it is not seen. Rows
// wait while an older transaction is running in any database of the cluster; Held names it. Deletes
// are not seen. DESIGN.md has the proof.
package xminsource
