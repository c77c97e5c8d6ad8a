// Package pollertest helps to test pipelines and checkpointers.
//
//   - [Checkpointer] is a checkpoint in memory, with fault points.
//   - [Recorder] notes what a Poller does and waits for it to get somewhere.
//   - [Explore] crashes a pipeline at every call it makes of its parts, restarts
//     it, and checks what arrived.
//   - [TestCheckpointer] checks a checkpointer against the contract of package
//     poller.
//
// Sources and sinks in memory are in packages sourcetest and sinktest. All of
// them wait on timers, channels and contexts only, so inside a testing/synctest
// bubble hours pass in no time:
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
//		time.Sleep(time.Minute) // no time at all
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
// A source or sink on real files or sockets does not belong in a bubble: there
// the clock stands still while it works.
package pollertest
