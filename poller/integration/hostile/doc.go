// Package hostile writes to a table as the worst of its clients would, and judges
// whether a reader that polls it missed anything.
//
// Rows do not become visible in the order of their keys, so a poller that reads by
// key can pass rows that commit late. Whether yours does depends on how the
// rows are written. To find out, take a copy of the table, on a server that you
// can spare, add a column by which each row is known again, and let the writers
// loose on it while a reader polls:
//
//	db.MustExec(`alter table orders add column token bigint unique`)
//	trial := hostile.Trial{
//		Writers: hostile.Writers{DB: db.DB, Rows: 100_000, Table: hostile.Table{Name: "orders", Key: "id", Token: "token"}},
//		Readers: []hostile.Reader{
//			{Name: "naive", Source: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}, Ceiling: ceiling.None{}}},
//			{Name: "ours", Source: &sqlsource.Table{DB: db, Name: "orders", Key: []string{"id"}}},
//		},
//	}
//	_, results, err := trial.Run(ctx)
//
// If the naive reader lost nothing, the writers were not hostile enough, and the
// result of the other says little: write more, or hold transactions longer. If
// "ours" has Result.Lost above 0, rows of that table are missed, and
// Ledger.Describe tells how one of them was written. Columns that need values get
// them by Table.Columns and Table.Values.
//
// # What the writers do
//
// Each of them does one transaction after another: of 1 to MaxRows rows, most
// short, some held open for up to Hold, by acts that are drawn by their weights.
// [Common] returns those that any application does: rows one by one, several at
// once, COPY, INSERT ... SELECT, below savepoints, after savepoints that were
// rolled back, with keys drawn from the sequence ahead. Some transactions are
// rolled back as a whole, or prepared and committed later, if Rollbacks and
// Prepared say so. Deletes and long upserts must be asked for. So must
// [Earlier] and [Low], whose rows every reader by key misses: they show what an
// audit finds.
//
// For what your application does and these do not, write an [Act], a function that
// takes tokens and inserts rows with them. Triggers, partitions and defaults are
// those of your table.
//
// # What is judged
//
// Each row has a token, and the [Ledger] knows which tokens were committed, and
// when. A commit that got no answer because the server went away is looked up in
// the table afterwards. What the reader delivered is compared with that: rows
// lost, rows that came twice or out of order, rows that came and were never
// committed, and the delay between commit and delivery.
//
// It works with Postgres over pgx or lib/pq (no [Copy]), and with MySQL and
// MariaDB. A seed fixes what each writer does, but not the moments, which are the
// machine's.
package hostile
