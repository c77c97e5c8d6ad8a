// Package filecheckpoint keeps a pipeline's cursor in a small file.
//
//	checkpoint, err := filecheckpoint.Open("/var/lib/orders/checkpoint.json", filecheckpoint.Options{})
//	p := &poller.Poller[Order]{Name: "orders", Source: orders, Sink: api, Checkpointer: checkpoint}
//
// Use it with a sink that does not keep the cursor itself. After a crash between
// Write and Save the batch is written once more.
//
// # Durability
//
// Save replaces the file with [durable.Replace]. After a crash the file holds the
// old checkpoint or the new one, never a part. On Windows a power cut can also undo
// the last Saves, see [durable.SyncDir].
//
// # Several processes
//
// Any number of handles, in any number of processes on one machine, may have
// the file open. Each call holds a lock on the file PATH.lock, so the
// compare-and-swap is atomic. The lock ends with its process; its file stays.
// Two pipelines on one file cannot both run: Save of the second one returns
// poller.ErrConflict. On a network file system this needs working locks. If the
// path is a symbolic link, the file it leads to is used.
//
// # Rewinding
//
// To read a range again, call [File.Rewind] from any process. A pipeline that is
// running ends with ErrConflict at its next Save. Started again, it goes on from the
// new cursor. [File.History] and the file's "history" list earlier cursors.
//
// The file is JSON for people to read. It has a checksum, so it cannot be edited in
// place. To set the cursor by hand, stop the pipeline and replace the whole file:
//
//	{"version": 1, "cursor": "v2:42", "writer": "anna"}
//
// Writer is any value that was not there before. Rewind and edit as the user that
// the pipeline runs as, because whoever writes the file owns it.
//
// # Errors
//
// A damaged file is an error and not a new start, which would silently send
// everything again. A file that disappears while a handle is open is an error
// too. A pipeline that starts without a file starts from the beginning, so stop
// the pipeline before you remove, restore or put back the file: a supervisor could
// restart it in between. Set Options.MustExist if its file system may be missing.
//
// A release can read files of the release before it and the release after it, so
// it can be rolled back. A file of a later format version is an error.
package filecheckpoint
