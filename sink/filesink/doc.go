// Package filesink writes records to JSON Lines or CSV files in a directory,
// exactly once.
//
//	files, err := filesink.Open("/var/spool/orders", filesink.Options[Order]{Name: "orders"})
//	if err != nil {
//		return err
//	}
//	defer files.Close()
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: files, Checkpointer: files}
//	err = p.Run(ctx)
//
// The cursor is kept in the same directory and moves together with the records,
// so pass the [Dir] both as Sink and as Checkpointer.
//
// # The directory
//
//	orders-0000000001.jsonl       sealed: complete, and never changed again
//	orders-0000000002.jsonl       sealed
//	orders-0000000003.jsonl.open  the open segment: being written
//	checkpoint                    what is committed: the cursor, and how much of the open segment
//	lock                          who has the directory open
//
// A directory belongs to one pipeline, and its segments to one name. The names
// of sealed segments sort in the order of their records, so that the
// concatenation of orders-*.jsonl is everything that was sealed. There is no
// segment without records. A segment is sealed when it reaches a limit of
// [Options], when the columns of the records change, by [Dir.Seal], and by
// [Dir.Rewind]. [Dir.Close] does not seal: a service that is restarted goes
// on with its open segment.
//
// # What consumers may do
//
// Read, move and delete sealed segments, at any time: they are never needed
// again. A consumer that watches the directory takes the files whose name does
// not end in .open; one that is told by OnSeal can be sure that the name is
// durable, too. A segment that was taken between the two, just before a power
// cut, can come back; its name and content are then the same as before.
//
// Leave alone the open segment, checkpoint and lock. The open segment may be
// read, but may end in records that are not committed and will be cut off
// again, and in the middle of one.
//
// # What is guaranteed
//
// When Write returns nil the records and the cursor are durable. Whatever
// happens before, either both or neither are there afterwards. This holds
// against the process being killed, the machine losing power, a full disk, and
// errors of the disk that it reports, if a sync that succeeds makes durable what
// was written, and a rename replaces a file in one step. That is so for the
// usual local file systems of Linux and macOS. It is not promised for network
// file systems, whose locks may be lost. On Windows directories cannot be
// synced. There it holds against a killed process; after a power cut the last
// batches may be gone together with their cursor, and are read again, but a
// sealed segment already taken may then come again.
//
// A batch costs three syncs: of the data, of the checkpoint, of the directory.
// Larger batches make them rare.
//
// After an error nothing is known of what the failed call left behind, and a
// sync that failed once may succeed the second time with data missing. So the
// Dir closes the segment, reads the checkpoint again, cuts the segment to its
// committed size, and the batch is written again. A directory that is gone is
// an error until it is back; the Dir never starts anew in its place.
//
// # What Open does
//
// Open takes the lock, makes the directory's names durable, reads the
// checkpoint, removes segments that were never committed, cuts the open segment
// to its committed size, and gives segments that were sealed their final names.
// A new directory gets a checkpoint at once. It refuses, and changes nothing,
// where a crash cannot be the cause:
//
//   - segments without a checkpoint: restore it, or move the segments away to
//     start anew;
//   - a checkpoint that is damaged, or of another Name;
//   - a sealed segment that the checkpoint does not know: the checkpoint is an
//     old one, and its rows would come twice;
//   - an open segment that is missing, is shorter than what was committed, or
//     whose last write is not what was written. Only that last write is
//     compared, by its CRC-32C, so that Open is quick whatever the size;
//   - files that were sealed and have been put back as open ones.
//
// # Going back
//
// The checkpoint keeps a history of cursors: the last few, and fewer of older
// ones. To read a range again, stop the service, then Open, [Dir.History],
// [Dir.Rewind] and Close. Do so as the service's user, to whom new files must
// belong, and with its OnSeal, which is told of what is sealed then. The
// checkpoint is JSON, for people to read while the service runs; programs use
// the function [History]. Editing it is refused.
//
// A release reads the checkpoint that the one before it wrote, and the one
// after it, so it can be rolled back. One of a later version is an error.
//
// There is no compression and no retention: what is sealed can be compressed,
// moved or deleted by whoever likes to.
//
// # How this is known
//
// The tests run pipelines on a model of a disk. Any call on it may fail, having
// taken effect or not, or be the last before the process is killed or the power
// goes; a power cut keeps of what was not synced some pages and some names; a
// failed sync drops pages and calls them clean. After each of 50,000 such runs
// the sealed segments must hold every committed record once, in order, and none
// of them may ever have changed. Fifteen faults put into this package on
// purpose, such as a sync left out, are each found within a few hundred runs.
// Real processes are killed, and real file systems filled.
package filesink
