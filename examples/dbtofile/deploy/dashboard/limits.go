package main

// Where the alerts of ../prometheus/alerts.yml fire. A test compares them.
const (
	stalled    = 600        // PipelineStalled: seconds
	lagHigh    = 900        // PipelineLagHigh: seconds
	held       = 900        // PipelineHeldBack: seconds
	errorRatio = 0.1        // PipelineErrorRatio: share of turns
	storm      = 60.0 / 300 // PipelineRetryStorm: 60 in 5 minutes, as a rate
	crashes    = 3          // PipelineCrashLoop: restarts in 15 minutes
	checkStale = 172800     // UpdateCheckStale: seconds
	diskFull   = 0.05       // DiskAlmostFull: share of the disk
	skew       = 30         // ClockSkewed: seconds
)
