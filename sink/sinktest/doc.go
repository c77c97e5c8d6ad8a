// Package sinktest helps to test what uses a sink, and sinks themselves.
//
//   - [Fake] is a sink in memory that stores records alone: at least once.
//   - [Transactional] is one that stores the cursor with them, and is the
//     pipeline's Checkpointer as well: exactly once.
//   - [TestSink] checks a sink against the contract of package sink.
package sinktest
