// Package pollertest helps to test pipelines and checkpointers.
//
//   - [Fakes] are the parts of a pipeline in memory, with fault points.
//   - [Checkpointer] is the checkpoint among them.
//   - [Recorder] records the hook calls and log lines of a Poller, and waits for
//     them.
//   - [Explore] crashes a pipeline at every call of its parts, restarts it, and
//     checks the records in the sink.
//   - [TestCheckpointer] checks a checkpointer against the contract of package
//     poller.
//
// They wait on timers, channels and contexts only, so inside a testing/synctest
// bubble an hour takes no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		var fakes pollertest.Fakes[int]
//		stop := pollertest.Start(t.Context(), fakes.Poller("numbers"))
//
//		fakes.Source.Fail(errors.New("database is down"))
//		fakes.Source.Append(1, 2)
//		time.Sleep(time.Hour) // returns at once
//		fakes.Source.Heal()
//		time.Sleep(time.Minute)
//
//		if err := stop(); err != nil || len(fakes.Sink.Records()) != 2 {
//			t.Errorf("delivered %v: %v", fakes.Sink.Records(), err)
//		}
//	})
//
// Do not use a source or sink on real files or sockets in a bubble: the clock
// stands still while it works.
package pollertest
