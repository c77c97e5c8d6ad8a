// Package filecheckpoint keeps a pipeline's cursor in a small file.
//
//	checkpoint, err := filecheckpoint.Open("/var/lib/orders/checkpoint.json", filecheckpoint.Options{})
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: api, Checkpointer: checkpoint}
//
// It is for sinks that keep no cursor themselves: after a crash the batch
// between Write and Save may come once more.
//
// # Durability
//
// Save writes a temporary file of unique name in the same directory, fsyncs it,
// renames it over the old one and fsyncs the directory (which Windows cannot).
// So the file is always whole: the old checkpoint or the new one, whatever
// crashes. Save makes no use of a file descriptor after its fsync has failed.
//
// # Several processes
//
// Any number of handles, in any number of processes on one machine, may have
// the file open. A lock on the file beside it, PATH.lock, is held just during a
// call, so the comparing and swapping is atomic; the lock ends with its
// process, and its file stays. Two pipelines on one file cannot both go on: the
// second one's Save returns [poller.ErrConflict]. Network file systems need
// working locks for this. Of a path that is a symbolic link the file it leads to
// is used.
//
// # Rewinding
//
// To read a range again, call [File.Rewind] from any process, or edit the file
// with the pipeline stopped: it is JSON. Change "cursor", and "writer" to
// anything new. A pipeline that runs meanwhile ends with poller.ErrConflict at
// its next Save; started again it goes on from the new cursor. [File.History]
// and the file's "history" have the cursors of before.
//
// Rewind, and edit, as the user the pipeline runs as: whoever writes the file
// owns it.
//
// A file that is damaged is an error and not a new start, which would send
// everything again in silence. So is one that has gone from under its handle. A
// pipeline that starts without a file starts from the beginning.
//
// A release reads the file that the one before it wrote, and the one after it,
// so it can be rolled back. One of a later version is an error.
package filecheckpoint
