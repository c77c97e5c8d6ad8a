// Package deadletter keeps the records that a pipeline cannot deliver in a
// directory, as JSON Lines, lists them, and delivers them after a fix.
//
//	letters, err := deadletter.Open[Order]("/var/lib/orders/letters", deadletter.Options{})
//	if err != nil {
//		return err
//	}
//	defer letters.Close()
//	p := &poller.Poller[Order]{Name: "orders", DeadLetter: letters, ...}
//
// Both kinds of records come here: those that the sink rejects, and those that the
// source cannot make, see [source.BadRecord].
//
// # Format
//
// Each line is one JSON object, a [Letter]:
//
//	{"id":"6b0f…","pipeline":"orders","time":"2026-01-31T12:00:00Z","from":"…","to":"…","error":"…","record":{…}}
//	{"id":"9d41…","pipeline":"orders","time":"2026-01-31T12:00:01Z","from":"…","to":"…","key":"id 42","error":"…"}
//
// The keys do not change. Later versions may add keys, so readers must ignore keys
// they do not know. A letter holds values of the record: the files are readable by
// their owner only.
//
// The directory is one of package filesink: the files have names such as
// letters-0000000001.jsonl, and one that ends in .open is still being written. Take
// and remove the others whenever you like. Use [List] to read them all.
//
// # Guarantee
//
// A letter is durable before the Poller saves the cursor after its record. A crash
// between the two makes the Poller write the letter again, and so does a rewind. The
// copy has the same ID if the record has a Key, or with [Options.Distinct]; without
// them it may have another one, see [Letter]. List and [Source] return each ID once. So
// a letter that was replayed is not replayed again after a rewind, unless the
// replay begins again with a new checkpoint.
//
// # Replay
//
// A [Source] reads the letters as records, so that another pipeline delivers them:
//
//	p := &poller.Poller[Order]{
//		Name:         "orders-replay",
//		Source:       &deadletter.Source[Order]{Dir: "/var/lib/orders/letters", Refetch: orders},
//		Sink:         api,
//		Checkpointer: replayed, // its own: a filecheckpoint, or an exactly-once sink
//	}
//	err := p.Drain(ctx)
//
// Its checkpoint says how far the letters are replayed, so that a second Drain
// delivers only new ones. To clear the letters, remove that checkpoint with them: it
// is refused by a new directory. The pipeline that wrote the letters may go on at the same
// time. Give the replay no DeadLetter, and it ends at the first letter that still
// cannot be delivered. Or give it a DeadLetter in another directory. In the same
// directory the replay would read its own letters, and never end.
package deadletter
