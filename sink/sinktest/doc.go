// Package sinktest helps to test sinks and the code that uses them.
//
//   - [Fake] is a sink in memory that stores records only: at least once.
//   - [Transactional] is a sink in memory that stores the cursor with the records
//     and is the pipeline's Checkpointer too: exactly once.
//   - [Checkpoint] is a checkpointer in memory that stores only the cursor.
//   - [TestSink] checks a sink against the contract of package sink.
package sinktest
