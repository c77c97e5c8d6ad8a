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
// bubble hours pass in no time.
package pollertest
