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
//	orders.Ceiling = postgres.LockFence{}
//
// A strategy for another database, or for a promise that only you know of, is
// two methods of your own; the example of [Ceiling] shows one.
//
// # Which one
//
//   - [LockFence]: Postgres, a table as it is, whose key is a serial or identity
//     column, or draws from a sequence by default. Chosen by itself.
//   - [TransactionID]: Postgres, a key that begins with an xid8 column. Also for
//     keys made by clients, for updates and for standbys. Chosen by itself.
//   - [Stamp]: Postgres, a key that begins with a timestamptz that a trigger sets
//     to clock_timestamp(). Also for updates. Chosen by itself if the trigger is
//     found, else by name.
//   - [DirtyProbe]: MySQL and MariaDB, InnoDB, an AUTO_INCREMENT key. Chosen by
//     itself.
//   - [SingleWriter]: SQLite, an AUTOINCREMENT key. Chosen by itself; by name for
//     other keys that only grow.
//   - [Grace], [Lag], [None]: any database. They can miss rows, and are chosen by
//     name only.
//
// # Why the lock fence is sound
//
// It takes four steps, each a statement of its own, on one connection:
//
//  1. H := the greatest key that is visible, or what the sequence has come to, if
//     that is less.
//  2. After the answer: L := the transactions that hold a writing lock on the
//     table, on any table of its partition tree, or on its sequence.
//  3. Wait until none of L is left.
//  4. Read the rows up to H.
//
// Let T be a transaction that adds a row with a key k ≤ H, drawn from the
// sequence by T itself. The sequence hands out each value once, in order, at the
// time it is drawn (CACHE 1, INCREMENT 1, NO CYCLE, never set back), and H was
// drawn before step 1 ended; so k was drawn before step 1 ended. nextval locks
// the sequence before it draws, for the whole of the top-level transaction, a
// rolled back savepoint notwithstanding; an INSERT has locked the table before.
// So when step 2 looks, T either is in L, or has ended. In both cases T has ended
// when step 4 begins. Postgres makes a commit visible before it releases the
// locks (CommitTransaction in xact.c: ProcArrayEndTransaction, then the locks),
// so the snapshot of step 4 sees T's row if T committed, and nothing that can
// still happen adds another. A prepared transaction keeps its locks, and is
// listed without a process until it is committed or rolled back; on servers
// older than late 2021 under a new id, as on all servers after a restart. So one
// that appears under such an id is taken for the oldest member of any L. After a
// restart, also one after the crash of a single process, ids are given anew, and
// so are keys whose commits were not on disk (asynchronous commit): all fences
// are set anew, from the locks of the prepared transactions that survived it.
//
// The tests of this package hold a model of this, writers, sequence, locks,
// snapshots and crashes, which goes through all orders in which the steps of
// three writers and a reader can come, and finds out readers with a fault.
//
// What is assumed, and what becomes of it where it does not hold:
//
//   - The key is drawn by the transaction that adds the row. A key that was drawn
//     by an earlier transaction, or made up below the greatest, is missed; one
//     made up above the sequence is held until the sequence has passed it. The
//     audit of package sqlsource finds such rows.
//   - The sequence stays as it is. It is looked at whenever a fence is set: CACHE
//     above 1 is refused then, too, and one that stands below the cursor, or that
//     was restarted or altered since the cursor was made, is an ErrHistory of
//     package sqlsource. A setval back and forth between two looks is not seen.
//   - Rows are added by INSERT, COPY, MERGE and the like. A partition that is
//     attached with rows in it, or an UPDATE of the key, brings rows without
//     drawing their keys.
//   - The server shows its locks: it is the primary, and pg_locks lists the
//     reader's own lock. Both are looked at in each list.
//
// What does not matter: how long transactions are, how rows are added, triggers
// slow or deferred, sub-transactions, isolation levels, rollbacks, gaps, the
// rights of the reader, who may see no more than everybody.
//
// # Why the transaction id is sound
//
// Each row holds the id of the transaction that wrote it, in _tx. One statement
// reads the rows with _tx < pg_snapshot_xmin(pg_current_snapshot()), the oldest
// transaction that was in progress for its own snapshot. All transactions below
// that have ended before the snapshot, so it sees all rows that they will ever
// have written, and each later one writes a greater id. The cursor's _tx is below
// the ceiling of the statement that read it, so no row can appear at or below the
// cursor. It is assumed that _tx is what the default or trigger sets, and that
// ids only grow: the cursor holds the cluster's identity, and an id that the
// cluster has not come to is an ErrHistory. xid8 does not wrap around.
//
// # Why the stamp is sound
//
// C := the server's clock, rounded as the column is, and after the answer, L :=
// the lock holders as above. A transaction that is not in L and has not ended
// locks the table after C was read, and draws its stamps after that. So when all
// of L have ended, the rows with stamps below C are settled. It is assumed that
// the clock is not set back, and that the stamp is clock_timestamp() at each
// change. now() and CURRENT_TIMESTAMP are the time when the transaction began, or
// even when the message began of which it was a part, which no lock orders.
//
// # Why the dirty probe is sound
//
// The doc comment of [DirtyProbe] goes through its steps. In short: what is
// missing among the committed keys is either drawn and not inserted, which only a
// statement that is running can end, so these are waited for; or inserted and not
// committed, which READ UNCOMMITTED shows; or also deleted by the transaction
// that inserted it, which a locking read runs into; or it will never be there.
// It is assumed that AUTO_INCREMENT gives the key, by one server, and that the
// list of threads is whole: both are looked at.
//
// The price is that a hole waits for every statement that runs on the server when
// it is first seen, a long report as well as an INSERT: neither MariaDB nor MySQL
// shows every role which of them write to the table.
//
// # Updates and deletes
//
// With an auto-increment key a row is read once, as it is then. Where the key
// begins with a column that each change sets anew, [TransactionID] or [Stamp]
// with a trigger BEFORE INSERT OR UPDATE, or [SingleWriter] with a counter, each
// row's latest version is read after each change. Versions in between, two
// changes before one poll, are not seen, and a row that changes all the time is
// seen when it rests: no poller can. A DELETE leaves nothing to be polled. The
// recipe for deletes is to make them updates: set deleted_at, which moves the row
// ahead of the cursor, and DELETE for real after some days.
//
// A bulk update gives a million rows one transaction id; they are told apart by
// the rest of the key and read in batches as any others.
package ceiling
