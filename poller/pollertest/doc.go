// Package pollertest helps to test pipelines and checkpointers.
//
//   - [Checkpointer] is a checkpoint in memory, with fault points.
//   - [Recorder] records the hook calls and log lines of a Poller, and waits for
//     them.
//   - [Explore] crashes a pipeline at every call of its parts, restarts it, and
//     checks the records in the sink.
//   - [TestCheckpointer] checks a checkpointer against the contract of package
//     poller.
//
// Packages sourcetest and sinktest have sources and sinks in memory. All of them
// wait on timers, channels and contexts only, so inside a testing/synctest bubble
// an hour takes no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		var src sourcetest.Fake[int]
//		var out sinktest.Transactional[int]
//		var rec pollertest.Recorder
//		p := &poller.Poller[int]{
//			Name: "numbers", Source: &src, Sink: &out, Checkpointer: &out,
//			Hooks: rec.Hooks(), Logger: rec.Logger(),
//		}
//		ctx, stop := context.WithCancel(t.Context())
//		ended := make(chan error)
//		go func() { ended <- p.Run(ctx) }()
//
//		src.Append(1, 2)
//		time.Sleep(time.Minute) // returns at once
//		src.Fail(errors.New("database is down"))
//		src.Append(3)
//		time.Sleep(time.Hour)
//		src.Heal()
//		time.Sleep(time.Minute)
//
//		if got := fmt.Sprint(out.Records()); got != "[1 2 3]" {
//			t.Errorf("delivered %s in\n%v", got, rec.Log())
//		}
//		stop()
//		if err := <-ended; err != nil {
//			t.Error(err)
//		}
//	})
//
// Do not use a source or sink on real files or sockets in a bubble: the clock
// stands still while it works.
package pollertest
