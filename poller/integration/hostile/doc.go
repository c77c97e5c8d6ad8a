// Package hostile tests whether a reader that polls a table misses rows. It writes to the
// table like its worst clients would, while the reader polls, and then compares the
// committed rows with the delivered ones.
//
// Rows do not become visible in the order of their keys, so a poller that
// remembers the greatest key can skip rows that commit late. Whether yours does
// depends on how the rows are written. To find out, copy the table to a server
// that you can spare, add a column that identifies each row, and run a trial:
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
// If Result.Lost of "ours" is above 0, the reader misses rows of that table, and
// Ledger.Describe says how a lost row was written. If the naive reader lost
// nothing, the writers were not hostile enough and the trial shows little: write
// more rows, or hold transactions open longer. Table.Columns and Table.Values
// supply values for columns that need them.
//
// # What the writers do
//
// Each writer runs one transaction after another, of 1 to 50 rows. Most are
// short; some are held open for up to Hold. A transaction consists of acts, which
// are drawn at random by their weights. [Common] returns the acts of any
// application: rows inserted one by one or several at once, COPY, INSERT ...
// SELECT, savepoints that are released or rolled back, keys drawn from the
// sequence ahead of the INSERT. Rollbacks and Prepared set the share of
// transactions that are rolled back as a whole, or prepared and committed later.
// Deletes, long upserts and TRUNCATE are used only if you list them in
// Writers.Acts. So are [NextvalEarlier] and [LowKeys]: every reader that orders
// rows by the key misses their rows. They show what an audit finds.
//
// Write an [Act] for what your application does and these acts do not: a function
// that reserves tokens and inserts rows with them. Triggers, partitions and
// defaults of the table take effect as usual, so they are tested as well.
//
// # What is compared
//
// Each row has a token. The [Ledger] records which tokens were committed, and
// when. If the connection is lost during a commit, the table shows afterwards
// whether it happened. A [Result] counts rows that were lost, delivered twice, out
// of order, or delivered without having been committed, and gives the delay
// between commit and delivery.
//
// The package works with Postgres by pgx or lib/pq ([Copy] needs pgx), and with
// MySQL and MariaDB. A seed fixes what each writer does, but not the timing.
package hostile
