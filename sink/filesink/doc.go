// Package filesink writes records to files in a directory, exactly once. The format
// is JSON Lines or CSV, compressed by [Gzip] if you like, or any other [Encoder].
//
//	files, err := filesink.Open("/var/spool/orders", filesink.Options[Order]{Name: "orders"})
//	if err != nil {
//		return err
//	}
//	defer files.Close()
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: files, Checkpointer: files}
//	err = p.Run(ctx)
//
// The cursor is stored in the same directory and moves together with the
// records, so pass the [Dir] both as Sink and as Checkpointer.
//
// # The directory
//
//	orders-0000000001.jsonl       sealed: complete, never changed again
//	orders-0000000002.jsonl       sealed
//	orders-0000000003.jsonl.open  the open segment, being written
//	checkpoint                    the cursor, and the committed size of the open segment
//	lock                          who has the directory open
//
// A directory belongs to one pipeline. The names of sealed segments sort in the
// order of their records. Every segment has at least one record. A segment is
// sealed when it reaches a limit of [Options], when the columns of the records
// change, and by [Dir.Seal] and [Dir.Rewind]. [Dir.Close] does not seal: the next
// Open goes on with the open segment.
//
// # What consumers may do
//
// Consumers may read, move and delete sealed segments at any time. A consumer that
// watches the directory takes the segments whose names do not end in .open. If it
// takes a segment before the name is durable, the segment can come back after a
// power cut, with the same name and content. When Options.OnSeal is called, the
// name is durable. OnSeal runs concurrently with the pipeline, for example to upload
// the segment, and is called again until it returns nil. [Dir.Pending] says how far it
// is; with it as Poller.Uploads, pages and metrics show its lag.
//
// Leave the open segment, checkpoint and lock alone. The open segment may be read,
// but it may end in the middle of a record, or in records that are not committed
// and will be cut off.
//
// # Guarantee
//
// When Write returns nil, the records and the cursor are durable. Before that,
// either both are stored or neither. This holds when the process is killed, the
// machine loses power, the disk is full, or the disk reports an error, on local
// file systems of Linux and macOS where a successful sync makes data durable and
// a rename replaces a file in one step. It is not promised for network file
// systems, whose locks may be lost. Windows cannot sync directories: it holds when
// the process is killed, but after a power cut the last batches may be gone
// together with their cursor, and a sealed segment that was taken may come again.
//
// After an error, call the method again: the Dir recovers what is committed first.
// A directory that no longer exists is an error until it is back. Stop the pipeline
// before you restore, put back or move away files: a start in between could begin
// again, or remove segments that it does not know.
//
// Open recovers in the same way. It refuses what no crash can cause, such as a
// damaged checkpoint, and then changes no file but the lock. It does not find
// everything:
//
//   - A directory whose file system is not mounted looks like a new one, see
//     Options.MustExist.
//   - An outdated checkpoint is refused only while a later sealed segment is still
//     in the directory. Otherwise the pipeline goes on from the old cursor, and Open
//     removes a later open segment, which looks like one of a crash.
//   - Of the open segment, and of sealed segments without their final names, only
//     the size and the last write are checked.
//
// DESIGN.md has the details and how they are tested.
//
// # Rewinding
//
// The checkpoint keeps a history of cursors: the last few, and fewer of the older
// ones. To read a range again, stop the service, then call Open, [Dir.History],
// [Dir.Rewind], [Dir.Seal] and Close. Rewind seals the open segment, and Seal waits
// for OnSeal. Use the service's OnSeal, and run as the service's user, who must own
// new files. Programs may call [History] while the service runs. The checkpoint is
// JSON for people to read. Do not edit it: a checkpoint that does not match its
// checksum is refused.
//
// A release can read checkpoints of the release before it and the release after
// it, so it can be rolled back. A later format version is an error.
package filesink
