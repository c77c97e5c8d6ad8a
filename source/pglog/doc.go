// Package pglog reads the changes of tables from the write-ahead log of Postgres, over plain SQL and
// with any driver.
//
//	src := &pglog.Source{DB: db, Slot: "orders", Publication: "orders"}
//	defer src.Close()
//	p := &poller.Poller[row.Change]{Source: src, Sink: sink, Checkpointer: checkpoint,
//		Hooks: poller.Hooks{Poll: func(i poller.PollInfo) { src.Saved(i.To) }}}
//
// The Source first copies the existing rows of the publication's tables, in one snapshot, and then delivers
// each insert, update, delete and truncation that the snapshot does not contain. Transactions come in
// the order in which they committed, and one slot feeds any number of tables.
//
// The server keeps its log until [Source.Saved] is called for it. A stalled pipeline fills the server's disk.
// Its status, and the metric devotion_log_pinned_bytes, say how much log it pinned at the end of the last
// poll: they do not move while the pipeline stands still. So alert on the server's own view pg_replication_slots as
// well, and set max_slot_wal_keep_size.
//
// It needs Postgres 13 or newer, wal_level = logical, a publication, and a role with the attribute
// REPLICATION that may read the tables. [Source.Setup] prints the statements. DESIGN.md explains why
// nothing is missed, and lists the limits.
package pglog
